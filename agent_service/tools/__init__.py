"""Tools, and where they come from.

`base` is the tool as a value, `decorator` makes one of a function by its `arguments`. `toolset` is the port through
which a process has tools; `python_toolset` is its adapter for functions, built-in ones (`builtin`) and those of modules
and installed packages, which `loading` imports. `runner` runs a function in time and in bounds, in `threads` where it
is sync; `output` is its result as JSON. `registry` has the tools of a configuration by name. `demo` is for the demo.
"""
