"""The store in one SQLite file.

- `adapter`: the ports, from the event loop's side
- `append_queue`: the writer thread; `batch`: one transaction of many appends
- `readers`: the threads that read; `index`, `recent`, `usage`, `workers`: the statements, by port
- `integrity`: a first look when the file is opened; `inspection`: a look that changes nothing
- `backup`: a copy of a live store
- `migrations/`: the schema, as numbered scripts

No other package imports `sqlite3`.
"""
