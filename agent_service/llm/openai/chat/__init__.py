"""Chat Completions: its requests and its replies."""
