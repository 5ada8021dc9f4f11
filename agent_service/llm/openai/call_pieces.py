"""Puts the tool calls of a Chat Completions reply together from their pieces.

The reference says that a piece belongs to the call of its `index`. Servers differ: some send index 0 for every call of
a turn, some no index, some no id, some another id with every piece. So a piece without a name goes on with the call at
its index, and one with a name begins another call only where the arguments of the last one there are whole, or where
names or ids tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from agent_service.llm.openai.events import BrokenReplyError
from agent_service.llm.openai.text_pieces import whole_characters
from agent_service.llm.tokens import utf8_length
from agent_service.v1.tool_pb2 import ToolCall

PLACEHOLDER = "{}"  # some servers begin a call with it, and send the arguments afterwards
ENDS = '}]"le0123456789'  # of JSON text: an object, a list, a text, null, true, false, a number
TEMPLATE_TOKEN = "<|"  # noqa: S105 - of a chat template, such as `<|channel|>`, which leaks into names

_ENTRY = frozenset({"index", "id", "type", "function"})
_FUNCTION = frozenset({"name", "arguments"})

Opaque = dict[str, Any]


@dataclass(slots=True)
class _OpenCall:
    """A call so far. `opaque` are the fields that the provider wants back with it, as they stand in the entry."""

    id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    length: int = 0  # of the arguments so far
    opaque: Opaque = field(default_factory=dict)

    @property
    def arguments_json(self) -> str:
        return "".join(self.arguments)

    def is_whole(self) -> bool:
        """Whether the arguments are JSON text: more of them would be too much."""
        end = self.arguments[-1].rstrip()[-1:] if self.arguments else ""
        if end and end not in ENDS:  # looked at first: some servers repeat the name in every piece
            return False
        try:
            orjson.loads(self.arguments_json)
        except orjson.JSONDecodeError:
            return False
        return True


class ToolCallPieces:
    """The calls of one reply so far. `bytes` counts names and arguments in UTF-8."""

    __slots__ = ("_at_index", "_calls", "bytes")

    def __init__(self) -> None:
        self._at_index: dict[int, _OpenCall] = {}
        self._calls: list[_OpenCall] = []
        self.bytes = 0

    def add(self, pieces: object, *, are_whole: bool) -> None:
        """Take in the `tool_calls` of a delta, or of a message, whose calls `are_whole` and stand beside one another.
        What is no call, or no piece of one, is passed over.
        """
        entries = pieces if isinstance(pieces, list) else [pieces]
        for position, entry in enumerate(entries):
            if isinstance(entry, dict):
                self._add(len(self._calls) + position if are_whole else _index(entry), entry)

    def _add(self, index: int | None, entry: Opaque) -> None:
        function = entry.get("function")
        if not isinstance(function, dict):
            function = entry
        name, call_id = _text(function.get("name")), _text(entry.get("id"))
        arguments = function.get("arguments")
        if arguments is None:
            arguments = ""
        elif not isinstance(arguments, str):  # some send an object in place of its text
            arguments = orjson.dumps(arguments).decode()
        call = self._call(index, call_id, name, arguments)
        if call is None:
            return
        self._take(call, name, arguments)
        if len(entry) > len(_ENTRY) or len(function) > len(_FUNCTION) or not _ENTRY.issuperset(entry):
            _keep_opaque(call.opaque, entry, function)

    def _take(self, call: _OpenCall, name: str, arguments: str) -> None:
        if name != call.name:  # some repeat it in every piece
            call.name += name
        if arguments:
            # Their length is compared first: joining what there is for every piece would take quadratic time.
            if len(arguments) == call.length and arguments == call.arguments_json and call.is_whole():
                return  # the whole call again, at its end
            if call.arguments == [PLACEHOLDER]:
                call.arguments.clear()
                call.length = 0
            call.arguments.append(arguments)
            call.length += len(arguments)
        self.bytes += len(name) + utf8_length(arguments)

    def _call(self, index: int | None, call_id: str, name: str, arguments: str) -> _OpenCall | None:
        """The call that a piece belongs to, begun if it is the first; None for a piece of nothing."""
        last = self._at_index.get(index) if index is not None else self._newest()
        if last is not None and not (name and _begins(last, call_id, name, arguments)):
            last.id = last.id or call_id
            return last
        if not name and not arguments:
            return None
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
        calls = [
            ToolCall(
                id=whole_characters(call.id) or f"call_{number}",
                name=call_name(call.name),
                arguments_json=whole_characters(call.arguments_json),
            )
            for number, call in enumerate(self._calls, calls_before + 1)
        ]
        if not all(call.name for call in calls):
            raise BrokenReplyError("a tool call has no name")
        return calls

    def opaque(self) -> list[Opaque]:
        """The opaque fields of each call; [] where none has any."""
        fields = [call.opaque for call in self._calls]
        return fields if any(fields) else []


def _begins(last: _OpenCall, call_id: str, name: str, arguments: str) -> bool:
    """Whether a piece with a name begins a call behind the last one, rather than going on with it."""
    if not last.arguments:
        if name == last.name or not last.name:
            return False
        is_rest_of_name = bool(last.id) and call_id in ("", last.id)
        return not is_rest_of_name
    if not last.is_whole():
        return False
    if call_id and call_id == last.id:
        return not (name == last.name and arguments in ("", last.arguments_json))
    is_repeated = bool(last.id) and not call_id and name == last.name and arguments == last.arguments_json
    return not is_repeated


def call_name(name: str) -> str:
    """The name of a tool without what a model's template puts around it."""
    return whole_characters(name.partition(TEMPLATE_TOKEN)[0].strip())


def _index(entry: Opaque) -> int | None:
    index = entry.get("index")
    if isinstance(index, str) and index.isascii() and index.isdigit() and len(index) < 10:
        return int(index)
    return index if type(index) is int else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _keep_opaque(kept: Opaque, entry: Opaque, function: Opaque) -> None:
    if function is entry:
        return
    merge(kept, entry, _ENTRY)
    inner: Opaque = kept.get("function", {})
    merge(inner, function, _FUNCTION)
    if inner:
        kept["function"] = inner


def merge(kept: Opaque, piece: Opaque, known: frozenset[str]) -> None:
    """Add the fields of a piece that are not `known` to what is kept of them: texts grow, lists grow, the rest is the
    newest.
    """
    for name, value in piece.items():
        if name in known or value is None or value in ("", []):
            continue
        before = kept.get(name)
        if isinstance(before, str) and isinstance(value, str):
            kept[name] = before + value
        elif isinstance(before, list) and isinstance(value, list):
            _merge_list(before, value)
        else:
            kept[name] = value


def _merge_list(kept: list[Any], pieces: list[Any]) -> None:
    """Pieces of one entry have its `index`."""
    for piece in pieces:
        last = kept[-1] if kept else None
        if isinstance(piece, dict) and isinstance(last, dict) and piece.get("index", -1) == last.get("index", -2):
            constant = {name for name in ("type", "format", "id", "index") if name in last}
            merge(last, piece, frozenset(constant))
        else:
            kept.append(piece)
