"""Tools: what models may call.

- `base`: what a tool is; `decorator`: makes one of a function; `arguments`: its arguments as JSON Schema
- `registry`: the tools of a process
- `runner`: runs one call; `threads`: for tools that block; `output`: the result as bounded JSON text
- `builtin/`: the tools that come with the service; `demo`: the tool of the demonstration
"""
