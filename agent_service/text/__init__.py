"""Conversions between text and values: for people, files and protobuf messages.

- `times`: seconds, and protobuf's Duration and Timestamp
- `enum_names`: values of protobuf enums by their short names: WORKING for TASK_STATE_WORKING
- `paths`: places in a document as text: agents.assistant.tools[1]
- `violations`: pydantic's errors as text that does not repeat the value
- `yaml_document`: YAML as plain values, each with its line
- `files`: small files, read whole and bounded
- `suggestions`: known names similar to an unknown one
- `amounts`: money as decimals
- `tables`: rows as lines with aligned columns
- `ids`: the syntax of ids

The lowest layer: it imports no other package of this service. The Python client, a separate distribution, does not use
it.
"""
