"""Puts the tool calls of a Chat Completions reply together from their pieces.

The reference says that a piece belongs to the call of its `index`. Servers differ: Ollama and others send index 0 for
every call of a turn, some send no index, some no id. So a call is known by (index, id), and a new id on an occupied
index is a new call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from agent_service.llm.tokens import utf8_length
from agent_service.v1.tool_pb2 import ToolCall


class BrokenReplyError(Exception):
    """The provider's reply is not what it has to be. `words` say how, and hold nothing of it: `it is too long`."""

    def __init__(self, words: str, *, retryable: bool = True) -> None:
        super().__init__(words)
        self.words = words
        self.retryable = retryable


@dataclass(slots=True)
class _OpenCall:
    id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def has_all_arguments(self) -> bool:
        try:
            orjson.loads("".join(self.arguments))
        except orjson.JSONDecodeError:
            return False
        return True


class ToolCallDeltas:
    """The calls of one reply so far. `bytes` counts names and arguments in UTF-8."""

    __slots__ = ("_at_index", "_calls", "bytes")

    def __init__(self) -> None:
        self._at_index: dict[int, _OpenCall] = {}
        self._calls: list[_OpenCall] = []
        self.bytes = 0

    def add(self, deltas: object, *, are_whole: bool) -> None:
        """Take in the `tool_calls` of a delta, or of a message, whose calls `are_whole` and stand beside one another.

        Raises:
            BrokenReplyError: they are not of the form that they have to be.
        """
        if not isinstance(deltas, list):
            raise BrokenReplyError("its tool calls are not a list")
        for position, delta in enumerate(deltas):
            function = delta.get("function") or {} if isinstance(delta, dict) else None
            if not isinstance(function, dict):
                raise BrokenReplyError("a tool call is not a JSON object")
            index = position if are_whole else delta.get("index")
            if index is not None and type(index) is not int:
                raise BrokenReplyError("an index is not a whole number")
            self._add(index, delta, function)

    def _add(self, index: int | None, delta: dict[str, Any], function: dict[str, Any]) -> None:
        name = text_of(function, "name")
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            # Some send an object in place of its text.
            arguments = orjson.dumps(arguments).decode() if arguments is not None else ""
        call = self._call(index, text_of(delta, "id"), name)
        if name != call.name:  # some repeat it in every piece
            call.name += name
        if arguments:
            call.arguments.append(arguments)
        self.bytes += len(name) + utf8_length(arguments)

    def _call(self, index: int | None, call_id: str, name: str) -> _OpenCall:
        """The call that a piece belongs to, begun if it is the first."""
        call = self._at_index.get(index) if index is not None else self._newest()
        if call is not None:
            if call_id and call.id:
                is_another = call_id != call.id
            else:  # without ids, a name that follows whole arguments can only begin another call
                is_another = bool(name and call.name) and call.has_all_arguments()
            if not is_another:
                call.id = call.id or call_id
                return call
        call = _OpenCall(call_id)
        self._calls.append(call)
        if index is not None:
            self._at_index[index] = call
        return call

    def _newest(self) -> _OpenCall | None:
        return self._calls[-1] if self._calls else None

    def calls(self, calls_before: int) -> list[ToolCall]:
        """The calls in the order in which they were begun; one without an id is `call_<n>`, n from `calls_before` + 1.

        Raises:
            BrokenReplyError: one has no name.
        """
        if not all(call.name for call in self._calls):
            raise BrokenReplyError("a tool call has no name")
        return [
            ToolCall(id=call.id or f"call_{number}", name=call.name, arguments_json="".join(call.arguments))
            for number, call in enumerate(self._calls, calls_before + 1)
        ]


def text_of(mapping: dict[str, Any], name: str) -> str:
    """The text of that name; empty where there is none.

    Raises:
        BrokenReplyError: it is something else than text.
    """
    value = mapping.get(name)
    if value is None or isinstance(value, str):
        return value or ""
    raise BrokenReplyError(f"a {name} is not text")
