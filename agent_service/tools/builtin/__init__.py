"""The tools that come with the service. All are read-only, bounded, and need nothing but the process.

- `calculator`: exact arithmetic
- `current_time`: the time in a time zone
- `echo`: its argument
- `json_query`: one piece of a JSON document
"""

# Under other names: a tool that is called like its module would hide it.
from agent_service.tools.builtin.calculator import calculator as _calculator
from agent_service.tools.builtin.current_time import current_time as _current_time
from agent_service.tools.builtin.echo import echo as _echo
from agent_service.tools.builtin.json_query import json_query as _json_query
from agent_service.tools.decorator import AnyFunctionTool

BUILTIN_TOOLS: tuple[AnyFunctionTool, ...] = (_calculator, _current_time, _echo, _json_query)
