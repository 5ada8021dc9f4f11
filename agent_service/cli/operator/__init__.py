"""Commands that work on this machine and need no API key.

- `serve`: starts a server; `dump`: asks the servers of this machine for a dump
- `config`, `doctor`, `keys`: check, show and make what a server reads
- `store`: `tasks prune` and `tasks backup`, on the store's file
- `init`: writes a new project
"""
