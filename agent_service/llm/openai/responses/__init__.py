"""The Responses API: its requests and its replies."""
