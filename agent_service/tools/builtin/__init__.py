"""The built-in tools. All are read-only and bounded, and need nothing outside the process.

- `calculator`: exact arithmetic
- `current_time`: the time in a time zone
- `echo`: returns its argument
- `json_query`: a value from a JSON document
"""

# Imported under other names: a tool with the name of its module would hide the module.
from agent_service.tools.builtin.calculator import calculator as _calculator
from agent_service.tools.builtin.current_time import current_time as _current_time
from agent_service.tools.builtin.echo import echo as _echo
from agent_service.tools.builtin.json_query import json_query as _json_query
from agent_service.tools.decorator import AnyFunctionTool

BUILTIN_TOOLS: tuple[AnyFunctionTool, ...] = (_calculator, _current_time, _echo, _json_query)
