"""The store: where journals are kept.

- `base`: the ports: journal, index, workers, usage, retention, history
- `memory`: a store that ends with the process
- `sqlite/`: a store in one SQLite file
- `liveness`: which processes count as dead: one rule for every store
- `usage`: sums of usage, as stores keep them

What an append may do is decided by `agent_service.journal`, not here.
"""
