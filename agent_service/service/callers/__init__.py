"""Who waits for a task, and what happens when nobody does."""
