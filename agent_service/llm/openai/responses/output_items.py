"""Assembles the output items of a Responses reply from its events.

The version of an item in `response.output_item.done` counts. Servers differ: some have one `output_index` for all items
or none, some change an item's id between its beginning and its end, some send the arguments of a call separately, and
some end an item only with the reply. So items are matched by their ids first; and the list of the last event counts if
it has more items than have ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from agent_service.llm.openai.chat.call_pieces import index_in

Json = dict[str, Any]

MESSAGE, CALL, REASONING = "message", "function_call", "reasoning"


@dataclass(slots=True)
class _Open:
    """An item that has begun, and the arguments that were sent separately; `is_whole`: they are complete."""

    index: int | None
    item: Json
    arguments: list[str] = field(default_factory=list)
    is_whole: bool = False

    def with_arguments(self, item: Json) -> Json:
        is_bare_call = item.get("type") == CALL and not item.get("arguments")
        return item | {"arguments": "".join(self.arguments)} if is_bare_call and self.arguments else item


class OutputItems:
    """The items of one partial reply."""

    __slots__ = ("_done", "_open")

    def __init__(self) -> None:
        self._done: list[tuple[int | None, Json]] = []
        self._open: list[_Open] = []

    def __bool__(self) -> bool:
        return bool(self._done)

    @property
    def are_open(self) -> bool:
        """Return whether an item has begun and not ended."""
        return bool(self._open)

    @property
    def has_open_call(self) -> bool:
        """Return whether there is a call whose arguments are not known to be complete."""
        return any(not each.is_whole and each.item.get("type", CALL) == CALL for each in self._open)

    def begin(self, event: Json) -> None:
        """Add an item that has begun."""
        if isinstance(item := event.get("item"), dict):
            self._open.append(_Open(index_in(event, "output_index"), item))

    def add_arguments(self, event: Json, piece: str) -> None:
        """Add a piece of the arguments of a call."""
        self._of_event(event).arguments.append(piece)

    def end_arguments(self, event: Json, arguments: str) -> None:
        """Set the complete arguments of a call."""
        call = self._of_event(event)
        call.arguments, call.is_whole = [arguments], True

    def end(self, event: Json) -> None:
        """Add the final version of an item."""
        item = _typed(event.get("item"))
        if item is None:
            return
        index = index_in(event, "output_index")
        if (begun := self._begun(index, item)) is not None:
            self._open.remove(begun)
            item = begun.with_arguments(item)
        for position, (other_index, other) in enumerate(self._done):
            if (index is None or other_index is None or index == other_index) and _is_same(item, other):
                self._done[position] = (other_index, item)
                return
        self._done.append((index, item))

    def end_all(self, output: object) -> None:
        """Add the list of items in the last event."""
        listed = [item for each in (output if isinstance(output, list) else ()) if (item := _typed(each)) is not None]
        if listed:
            if len(listed) > len(self._done):
                ended = [item for _, item in self._done]
                self._done = [(None, next((each for each in ended if _is_same(each, item)), item)) for item in listed]
            self._open.clear()

    def ordered(self) -> list[Json]:
        """Return the items in the order of the reply; of those that have not ended, only the calls."""
        calls = ((each.index, each.with_arguments(each.item)) for each in self._open if _is_call(each.item))
        found = [*self._done, *calls]
        indexes = [index for index, _ in found if index is not None]
        if len(set(indexes)) == len(found):
            found.sort(key=lambda each: each[0] or 0)
        return [item for _, item in found]

    def _of_event(self, event: Json) -> _Open:
        """Return the open item that an event is about."""
        index, item_id = index_in(event, "output_index"), event.get("item_id")
        for each in reversed(self._open):
            if item_id and each.item.get("id") == item_id:
                return each
        for each in reversed(self._open):
            if each.index == index and each.item.get("type", CALL) == CALL:
                return each
        self._open.append(_Open(index, {"id": item_id} if item_id else {}))
        return self._open[-1]

    def _begun(self, index: int | None, item: Json) -> _Open | None:
        """Return the open version of an item that ended: by its ids, else by its index, else the oldest of its kind."""
        kind = item.get("type")
        by_id = (each for each in self._open if _shares_id(each.item, item))
        by_index = (each for each in self._open if index is not None and each.index == index)
        by_kind = (each for each in self._open if each.item.get("type", kind) == kind)
        return next(chain(by_id, by_index, by_kind), None)


def of_type(items: list[Json], kind: str) -> Iterator[Json]:
    return (item for item in items if item.get("type") == kind)


def _is_call(item: Json) -> bool:
    return item.get("type") == CALL


def _typed(item: object) -> Json | None:
    """Return the item, with the type that messages may lack; None if it is no item."""
    if not isinstance(item, dict):
        return None
    return {"type": MESSAGE, **item} if "content" in item and not item.get("type") else item


def _shares_id(item: Json, other: Json) -> bool:
    return any(item.get(name) and item.get(name) == other.get(name) for name in ("call_id", "id"))


def _is_same(item: Json, other: Json) -> bool:
    if item.get("type") != other.get("type"):
        return False
    for name in ("call_id", "id"):
        if item.get(name) and other.get(name):
            return bool(item[name] == other[name])
    return item == other
