"""The store of journals.

- `base`: the ports: journal, index, workers, usage, retention, history
- `memory`: a store in memory, which is lost with the process
- `sqlite/`: a store in one SQLite file
- `liveness`: the rule that decides which processes are silent, shared by all stores
- `usage`: sums of usage, as stores keep them

The admission rule of appends is in `agent_service.journal`, not here.
"""
