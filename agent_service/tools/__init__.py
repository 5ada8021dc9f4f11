"""Tools and their sources.

- `base`: the tool as a value; `decorator`: makes one of a function; `arguments`: its arguments as JSON Schema
- `toolset`: the port for sources of tools, with a lifetime
- `python_toolset`: its adapter for functions; `loading`: imports functions from modules and installed packages
- `registry`: the tools of one configuration, by name
- `runner`: runs one function; `threads`: the threads of sync functions; `output`: the result as bounded JSON text
- `builtin/`: the tools that come with the service; `demo`: the tool of the demonstration
"""
