"""The results of tools, as models read them."""

from __future__ import annotations

import orjson

from agent_service.errors import reason_name
from agent_service.v1.task_event_pb2 import ToolFinished


def result_text(finished: ToolFinished) -> str:
    """Return a tool's result as a model reads it: a string as it is, other values as JSON text, an error as a JSON
    object.
    """
    if finished.HasField("error"):
        error = {"reason": reason_name(finished.error.reason), "message": finished.error.message}
        return orjson.dumps({"error": error}).decode()
    if finished.output_json.startswith('"'):
        text: str = orjson.loads(finished.output_json)
        return text
    return finished.output_json
