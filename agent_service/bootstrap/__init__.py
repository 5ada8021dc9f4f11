"""From the configuration to a running process: the only package that names concrete classes.

- `assemble`: the composition root: puts a service together from its parts
- `process`: builds the parts from the configuration, starts them, reloads, drains and stops them
- `parts`, `models`, `catalog`, `telemetry`: each builds one kind of part; `model_settings`, `bounds`: their arguments
- `store_file`: the store's file for the command line: finished tasks erased, the whole copied, or looked into
- `check`: looks for everything that a configuration names, without starting anything
- `surroundings`: tries what libraries read from the environment
- `file_watch`: notices that a file has other content; `dump`: writes what the process does when a signal asks
- `doctor/`: examines a machine and a running server
"""
