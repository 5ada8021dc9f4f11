"""One attempt of a task: the loop that drives it, its requests to models and its tool calls."""
