"""From the configuration to a running process: the only package that names concrete classes.

`assemble` puts a service together from its parts; `process` builds the parts from the configuration, starts them and
stops them. `parts`, `models`, `catalog` and `telemetry` build one kind of part each; `check` looks for what a
configuration names; `doctor` and its modules examine a machine and a running server.
"""
