"""Limits of usage in sliding windows. Independent of tasks and RPCs.

- `base`: the limiter port
- `memory`: the limiter of one process; `window`: one of its sliding windows
- `fair`: a limiter around another one, whose waiters are served in turn
- `refusal`: why a charge does not fit, and when it will
"""
