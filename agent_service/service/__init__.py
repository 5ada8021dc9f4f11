"""The RPCs in the domain's terms. Knows nothing of the wire.

- `service`: everything that the wire calls, the periodic work, and the stop
- `tasks`: accepts tasks; `accepted`: a task on its way in; `requests`: what callers may ask for, with its bounds
- `commands`: what is done to tasks that exist
- `reading`, `usage`: what callers may see
- `watching/`: follows tasks; `callers/`: who waits for a task
- `catalog`, `runtimes`: the configured agents and tools, now and for one task
- `turns`: requests of one key, one after the other; `ids`: ids that the service gives
"""
