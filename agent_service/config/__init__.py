"""The environment and the configuration file, read and checked as a whole at the start.

- `loader`: reads everything and reports all problems at once
- `sources/`: the environment, `.env` and the file as values with their places
- `variables/`: the variables of the environment; `settings`: all of them as one object
- `schema`, `model_entry`, `model_parts`: the types of the file; `model_defaults`: defaults by provider and model family
- `values`: values with a syntax, such as hosts and money
- `checks`, `contradictions`: rules between several entries; `surroundings`: variables that libraries read
- `problems`: an error of the configuration, with its place and without its value
- `describe`, `reference`: output for people and editors: the effective configuration, JSON Schema, manual

Only bootstrap and the command line import this package. It constructs no part of the service.
"""
