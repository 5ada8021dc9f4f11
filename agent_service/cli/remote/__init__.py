"""Commands that call a server through `agent_service.client`.

- `run`, `tasks`, `tools`, `usage`, `health`: one command, or one group of commands, each
- `task_output`: a task's events on a terminal, in a pipe or as JSON, and the exit code that follows from them
- `view`: how events and tasks look as text
- `stdin`: text from standard input
"""
