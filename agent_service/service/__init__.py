"""The RPCs in terms of the domain, independent of gRPC.

- `service`: the parts behind the RPCs, the periodic work, and shutdown
- `tasks`: accepts tasks; `accepted`: prepared and accepted tasks; `requests`: validated requests, with their bounds
- `commands`: cancels, answers and erases tasks
- `reading`, `usage`: reads tasks and usage, as far as a key may see them
- `watching/`: follows tasks; `callers/`: the callers that wait for a task
- `catalog`, `runtimes`: the configured agents and tools, now and for one task
- `keyed_lock`: a lock for each key; `ids`: generates ids
"""
