"""JSON Schemas that callers and configurations bring.

- `flaws`: why a schema may not be used
- `keywords`: where a schema has schemas inside it
- `output_schema`: an answer checked against its schema; `call_arguments`: the arguments of a tool call, as text
- `explanation`: how a value breaks its schema, without the value
"""
