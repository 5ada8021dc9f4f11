"""Commands that call a server through `agent_service.client`.

- `run`, `tasks`, `tools`, `usage`, `health`: one command or group of commands each
- `task_output`: shows a task's events on a terminal, in a pipe or as JSON, and determines the exit code
- `view`: events and tasks as text
- `stdin`: text from standard input
"""
