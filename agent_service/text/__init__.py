"""Text and values between the forms that people, files and messages give them.

- `times`: seconds, and protobuf's Duration and Timestamp
- `enum_names`: values of protobuf enums by their short names: WORKING for TASK_STATE_WORKING
- `paths`: places in a document as text: agents.assistant.tools[1]
- `violations`: what pydantic found, in words that do not repeat the value
- `yaml_document`: YAML as plain values, each with its line
- `files`: small files, read whole and bounded
- `suggestions`: the names nearest to one that is not known
- `amounts`: money as decimals
- `tables`: rows as lines whose columns stand below one another
- `ids`: what an id may look like

The lowest layer: it knows of no other package of this service. The Python client, which is a package of its own, does
not use it.
"""
