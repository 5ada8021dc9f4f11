"""The checks of `agent-service doctor`."""
