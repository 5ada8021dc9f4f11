"""The callers that wait for a task, and the end of a task that none waits for.

- `attached`: the Run and Stream calls of each task in this process
- `caller_sweep`: the callers at other processes of the store
- `abandonment`: cancels a task after its last caller left

Watchers are no callers: see `service/watching/`.
"""
