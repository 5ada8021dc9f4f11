"""Following a task's events."""
