"""The store in one SQLite file.

- `adapter`: the ports, called from the event loop
- `append_queue`: the writer thread; `batch`: one transaction of many appends
- `readers`: the reader threads; `index`, `recent`, `usage`, `workers`: the statements, by port
- `integrity`: a quick check when the file is opened; `inspection`: a read-only examination
- `backup`: a copy of a live store
- `migrations/`: the schema, as numbered scripts

No other package imports `sqlite3`.
"""
