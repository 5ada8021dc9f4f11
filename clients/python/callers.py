"""The calls of the scenario through the Python client: what each is named there, and how its result looks.

Both clients are played, `AsyncClient` and the blocking `Client`, which is called from threads here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from matching import MismatchError

from agent_service.client import AsyncClient, CallError, Client, Tls
from agent_service.v1.task_event_pb2 import ReasoningDelta, TaskEvent, TextDelta
from agent_service.v1.task_pb2 import InputAnswer, TaskState

TRANSIENT = ("text_delta", "reasoning_delta", "waiting", "heartbeat")


class Caller(Protocol):
    """One of the two clients."""

    async def call(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """What a unary method returns."""
        ...

    def events(self, method: str, arguments: Mapping[str, Any]) -> AsyncGenerator[TaskEvent]:
        """What `stream` and `watch` yield."""
        ...

    async def give_up(self, call: asyncio.Task[Any]) -> None:
        """Cancel a call as users do."""
        ...

    async def close(self) -> None: ...


class AsyncCaller:
    """AsyncClient."""

    def __init__(self, name: str) -> None:
        self._client = AsyncClient(**_connection(name))

    async def call(self, method: str, arguments: Mapping[str, Any]) -> Any:
        return await getattr(self._client, method)(**arguments)

    async def events(self, method: str, arguments: Mapping[str, Any]) -> AsyncGenerator[TaskEvent]:
        async with aclosing(getattr(self._client, method)(**arguments)) as events:
            async for event in events:
                yield event

    async def give_up(self, call: asyncio.Task[Any]) -> None:
        call.cancel()

    async def close(self) -> None:
        await self._client.close()


class BlockingCaller:
    """Client."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._client = Client(**_connection(name))

    async def call(self, method: str, arguments: Mapping[str, Any]) -> Any:
        return await asyncio.to_thread(getattr(self._client, method), **arguments)

    async def events(self, method: str, arguments: Mapping[str, Any]) -> AsyncGenerator[TaskEvent]:
        events = getattr(self._client, method)(**arguments)
        try:
            while (event := await asyncio.to_thread(next, events, None)) is not None:
                yield event
        finally:
            await asyncio.to_thread(events.close)

    async def give_up(self, call: asyncio.Task[Any]) -> None:
        """A thread that waits is let go by closing its client."""
        await asyncio.to_thread(self._client.close)
        self._client = Client(**_connection(self._name))

    async def close(self) -> None:
        await asyncio.to_thread(self._client.close)


def _connection(name: str) -> dict[str, Any]:
    ca_file = os.environ.get("AGENT_SERVICE_CA_FILE")
    return {
        "target": os.environ["AGENT_SERVICE_TARGET"],
        "api_key": os.environ.get(f"SCENARIO_KEY_{name.upper()}", ""),
        "tls": Tls(ca_file=ca_file) if ca_file else None,
    }


async def result_of(caller: Caller, method: str, given: Mapping[str, Any], until: str | None) -> dict[str, Any]:
    """Call, and tell the result as the scenario sees it."""
    arguments = dict(given)
    if method in ("stream", "watch"):
        if "after_sequence" in arguments:
            arguments["after_sequence"] = int(arguments["after_sequence"])
        return await _summed_up(caller.events(method, arguments), until)
    if "answer" in arguments:
        arguments["answer"] = ParseDict(arguments["answer"], InputAnswer())
    if "states" in arguments:
        arguments["states"] = [TaskState.Value(name) for name in arguments["states"]]
    result = await caller.call(method, arguments)
    wrapped = {"list_agents": "agents", "list_tools": "tools", "get_usage": "rows"}
    if method in wrapped:
        return {wrapped[method]: [_json(item) for item in result]}
    if method == "health":
        return {"status": result}
    if method == "delete_session":
        return {"tasks_deleted": result}
    return _json(result) if isinstance(result, Message) else {}


def error_of(error: BaseException) -> dict[str, Any]:
    """The error as the scenario sees it."""
    if not isinstance(error, CallError):
        return {"code": "CANCELLED"}
    told: dict[str, Any] = {
        "code": error.code,
        "reason": error.reason,
        "message": error.message,
        "request_id": error.request_id,
        "task_id": error.task_id,
        "violations": [{"field": field, "description": text} for field, text in error.violations],
        "metadata": dict(error.metadata),
    }
    return told if error.retry_after_s is None else told | {"retry_after_s": error.retry_after_s}


async def _summed_up(events: AsyncGenerator[TaskEvent], until: str | None) -> dict[str, Any]:
    journaled: list[TaskEvent] = []
    text, reasoning, deltas, last = "", "", 0, TaskEvent()
    async with aclosing(events):
        async for event in events:
            arm = event.WhichOneof("event")
            if arm != "heartbeat":
                last = event
            if arm == "text_delta":
                deltas += 1
                text = _joined(text, event.text_delta)
            elif arm == "reasoning_delta":
                reasoning = _joined(reasoning, event.reasoning_delta)
            elif arm not in TRANSIENT:
                journaled.append(event)
            if arm == until:
                break
        else:
            if until is not None:
                raise MismatchError(f"until: the stream ended without {until}")
    return {
        "arms": [event.WhichOneof("event") for event in journaled],
        "sequences": [event.sequence for event in journaled],
        "events": [_json(event) for event in journaled],
        "deltas": deltas,
        "text": text,
        "reasoning": reasoning,
        "last": _json(last),
    }


def _joined(text: str, delta: TextDelta | ReasoningDelta) -> str:
    if delta.offset == 0:
        return delta.text
    return text + delta.text if delta.offset == len(text.encode()) else "(gap)"


def _json(message: Message) -> dict[str, Any]:
    told: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return told
