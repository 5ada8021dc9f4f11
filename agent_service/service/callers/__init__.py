"""The callers that wait for a task, and the cancellation of a task without callers.

- `attached`: the Run and Stream calls of each task in this process
- `caller_sweep`: the callers at other processes of the store
- `abandonment`: cancels a task after its last caller left

Watchers do not count as callers: see `service/watching/`.
"""
