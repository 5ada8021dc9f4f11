"""What a task is: the fold of its events and pure functions of it. No clock, no I/O.

- `state`: the fold
- `inputs`: what a task waits for, and which answers it takes
- `context_window`: the part of a conversation that fits a model
- `tool_results`: the results of tools as models read them
"""
