"""Which task runs next in this process: the queue, the claims, the quarantine, the running tasks."""
