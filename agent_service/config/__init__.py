"""The environment and the configuration file, read and checked as a whole at the start.

- `loader`: reads everything and reports all problems at once
- `sources/`: the environment, `.env` and the file as values with their places
- `variables/`: the variables of the environment; `settings`: all of them as one object
- `schema`, `model_entry`, `model_parts`: the types of the file; `model_defaults`: what follows from a model's name
- `values`: values with a form of their own, such as hosts and money
- `checks`, `contradictions`: rules between several entries; `surroundings`: variables that libraries read by themselves
- `problems`: what is wrong, with its place and without its value
- `describe`, `reference`: the configuration explained: in effect, as JSON Schema, as a manual

Only bootstrap and the command line read it. It makes no part of the service.
"""
