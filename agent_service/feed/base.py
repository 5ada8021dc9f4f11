"""The feed port: live events of running tasks, to whoever watches. Best effort; the journal is the truth."""
