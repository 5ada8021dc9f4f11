"""JSON Schemas of callers and configurations: `admission` checks a schema, `explanation` how a value violates it.

`output_schema` validates answers, `call_arguments` normalises the arguments of tool calls, and `keywords` finds and
names subschemas.
"""
