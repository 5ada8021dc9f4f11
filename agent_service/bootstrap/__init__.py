"""Builds a running process from the configuration. Only this package names concrete classes.

- `assemble`: the composition root: builds a service from its parts
- `process`: builds the parts from the configuration, starts them, reloads, drains and stops them
- `parts`, `models`, `catalog`, `telemetry`: each builds one kind of part; `model_settings`, `bounds`: their arguments
- `store_file`: operations of the command line on the store's file: erase finished tasks, copy, inspect
- `check`: resolves everything that a configuration names, without starting anything
- `surroundings`: checks the environment variables that libraries read
- `file_watch`: detects changed file contents; `dump`: writes the state of the process on a signal
- `doctor/`: examines a machine and a running server
"""
