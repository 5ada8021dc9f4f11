"""The state of a task: the fold of its events, and pure functions of it. No clock, no I/O.

- `state`: the fold
- `inputs`: the inputs that a task waits for, and the answers that they accept
- `context_window`: the part of a conversation that fits a model
- `tool_results`: the results of tools as models read them
"""
