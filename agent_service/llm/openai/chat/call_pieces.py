"""Assembles the tool calls of a Chat Completions reply from their pieces.

The reference says that a piece belongs to the call of its `index`. Servers differ: some send index 0 for every call of
a turn, some no index, some no id, some another id with every piece. So a piece without a name continues the call at its
index (the newest call, if it has no index or there is no call at it). A piece with a name begins another call only if
the arguments of the last call there are complete, or if the names or ids differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import orjson

from agent_service.llm.openai.body.events import BrokenReplyError
from agent_service.llm.openai.body.text_pieces import whole_characters
from agent_service.llm.token_counts import utf8_length
from agent_service.v1.tool_pb2 import ToolCall

# Some servers begin a call with one of these and send the arguments afterwards; others send one after the arguments.
PLACEHOLDERS = frozenset({"{}", "null", "[]", '""'})
# The prefix that models put before a tool's name: their template's namespace for tools.
_NAMESPACE = re.compile(r"^(?:functions|default_api)[.:]")
ENDS = '}]"le0123456789'  # of JSON text: an object, a list, a text, null, true, false, a number
TEMPLATE_TOKEN = "<|"  # noqa: S105 - of a chat template, such as `<|channel|>`, which leaks into names

_ENTRY = frozenset({"index", "id", "type", "function"})
_FUNCTION = frozenset({"name", "arguments"})

Opaque = dict[str, Any]


@dataclass(slots=True)
class _OpenCall:
    """A partial call. `opaque` has the fields that the provider expects back with it, as they are in the entry."""

    id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    opaque: Opaque = field(default_factory=dict)

    @property
    def arguments_json(self) -> str:
        """Return the joined pieces, or the last piece where each piece repeated all before it."""
        whole = "".join(self.arguments)
        if len(self.arguments) > 1 and self.arguments[-1].startswith(self.arguments[0]) and not _is_json(whole):
            return self.arguments[-1] if _is_json(self.arguments[-1]) else whole
        return whole

    def is_whole(self) -> bool:
        """Return whether the arguments are complete JSON text."""
        end = self.arguments[-1].rstrip()[-1:] if self.arguments else ""
        if end and end not in ENDS:  # checked first, because it is cheap: some servers repeat the name in every piece
            return False
        return _is_json(self.arguments_json)

    def add(self, piece: str) -> None:
        """Add a piece of the arguments, unless it repeats them."""
        if len(self.arguments) == 1 and self.arguments[0] in PLACEHOLDERS:
            self.arguments.clear()
        elif piece in PLACEHOLDERS or (piece.startswith("{") and piece.endswith("}")):
            before = self.arguments_json
            if _is_json(before) and (piece in PLACEHOLDERS or _is_same(piece, before)):
                return
        self.arguments.append(piece)


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _is_same(text: str, other: str) -> bool:
    return _is_json(text) and orjson.loads(text) == orjson.loads(other)


class ToolCallPieces:
    """The calls of one partial reply. `bytes` counts names and arguments in UTF-8."""

    __slots__ = ("_at_index", "_calls", "bytes")

    def __init__(self) -> None:
        self._at_index: dict[int, _OpenCall] = {}
        self._calls: list[_OpenCall] = []
        self.bytes = 0

    def add(self, pieces: object, *, are_whole: bool) -> None:
        """Add the `tool_calls` of a delta, or of a message, whose calls are separate and whole (`are_whole`). Entries
        that are no calls are skipped.
        """
        entries = pieces if isinstance(pieces, list) else [pieces]
        for position, entry in enumerate(entries):
            if isinstance(entry, dict):
                self._add(len(self._calls) + position if are_whole else index_in(entry, "index"), entry)

    def _add(self, index: int | None, entry: Opaque) -> None:
        function = entry.get("function")
        if not isinstance(function, dict):
            function = entry
        name, call_id = _text(function.get("name")), _text(entry.get("id"))
        arguments = function.get("arguments")
        if arguments is None:
            arguments = ""
        elif not isinstance(arguments, str):  # some servers send an object in place of its text
            arguments = orjson.dumps(arguments).decode()
        call = self._call(index, call_id, name, arguments)
        if call is None:
            return
        self._take(call, name, arguments)
        if len(entry) > len(_ENTRY) or len(function) > len(_FUNCTION) or not _ENTRY.issuperset(entry):
            _keep_opaque(call.opaque, entry, function)

    def _take(self, call: _OpenCall, name: str, arguments: str) -> None:
        if name != call.name:  # some servers repeat it in every piece
            call.name += name
        if arguments:
            call.add(arguments)
        self.bytes += len(name) + utf8_length(arguments)

    def _call(self, index: int | None, call_id: str, name: str, arguments: str) -> _OpenCall | None:
        """Return the call that a piece belongs to, and create it for its first piece; None if there is no such call."""
        last = self._at_index.get(index) if index is not None else self._of_id(call_id) or self._newest()
        is_other = index is None and last is not None and not last.arguments and "" != last.id != call_id != ""
        if last is not None and not (name and (is_other or _begins(last, call_id, name, arguments))):
            last.id = last.id or call_id
            return last
        if not name and not arguments:
            return None
        call = self._newest()
        if name or call is None or not call.name or call.is_whole():
            call = _OpenCall(call_id)
            self._calls.append(call)
        if index is not None:
            self._at_index[index] = call
        return call

    def _of_id(self, call_id: str) -> _OpenCall | None:
        return next((call for call in reversed(self._calls) if call.id == call_id), None) if call_id else None

    def _newest(self) -> _OpenCall | None:
        return self._calls[-1] if self._calls else None

    def calls(self, calls_before: int) -> list[ToolCall]:
        """Return the calls in the order of their first pieces; a call without an id becomes `call_<n>`, with n from
        `calls_before` + 1.

        Raises:
            BrokenReplyError: a call has no name.
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
        """Return the opaque fields of each call; [] if no call has any."""
        fields = [call.opaque for call in self._calls]
        return fields if any(fields) else []


def _begins(last: _OpenCall, call_id: str, name: str, arguments: str) -> bool:
    """Return whether a piece with a name begins a new call rather than continues the last one."""
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
    """Return the name of a tool without the parts that a model's template adds to it."""
    return whole_characters(_NAMESPACE.sub("", name.partition(TEMPLATE_TOKEN)[0].strip(), count=1))


def index_in(entry: Opaque, name: str) -> int | None:
    """Return the number under this name; None if it is not a number."""
    index = entry.get(name)
    if isinstance(index, str) and index.isascii() and index.isdigit() and len(index) < 10:
        return int(index)
    if type(index) is float and index.is_integer():
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
    """Merge the fields of a piece that are not `known` into `kept`: strings and lists are appended, other values are
    replaced.
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
