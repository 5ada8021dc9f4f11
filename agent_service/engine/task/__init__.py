"""What a task is: the fold of its events and pure functions of it. No clock, no I/O."""
