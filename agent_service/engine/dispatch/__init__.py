"""Which task runs next in this process: the queue, the claims, the quarantine, the running tasks.

- `dispatcher`: claims waiting tasks, one after the other
- `fair_queue`: the order in which they wait
- `quarantine`: tasks that may have killed a process
- `runner`: the tasks that run in this process
- `session_history`: the earlier tasks of a session, as a model reads them
"""
