"""Commands that work on this machine and need no API key.

- `serve`: starts a server; `dump`: requests a dump from the servers of this machine
- `config`, `doctor`, `keys`: check, show and create the files that a server reads
- `store`: `tasks prune` and `tasks backup`, on the store's file
- `init`: writes a new project
"""
