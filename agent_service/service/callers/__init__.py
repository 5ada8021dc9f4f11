"""The callers that wait for a task, and the end of a task that none waits for.

- `attached`: the Run and Stream calls of each task in this process
- `attendance`: the same among all processes of a store
- `abandonment`: cancels a task after its last caller left

Watchers are no callers: see `service/watching/`.
"""
