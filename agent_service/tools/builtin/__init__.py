"""The tools that come with the service. All are read-only, bounded, and need nothing but the process."""

from agent_service.tools.base import Tool
from agent_service.tools.builtin.calculator import calculator
from agent_service.tools.builtin.current_time import current_time
from agent_service.tools.builtin.echo import echo
from agent_service.tools.builtin.json_query import json_query

BUILTIN_TOOLS: tuple[Tool, ...] = (calculator, current_time, echo, json_query)
