"""Puts the output items of a Responses reply together from its events.

An item counts as it stands in `response.output_item.done`. Servers differ: some have one `output_index` for all items
or none, some name an item otherwise at its end than at its beginning, some tell the arguments of a call beside it, and
some end an item by the end of the reply alone. So items are told apart by their ids first; and the list of the last
event counts where it has more of them than have ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from agent_service.llm.openai.call_pieces import index_in

Json = dict[str, Any]

MESSAGE, CALL, REASONING = "message", "function_call", "reasoning"


@dataclass(slots=True)
class _Open:
    """An item that has begun, and the arguments that were told beside it: `is_whole` says that they are all there."""

    index: int | None
    item: Json
    arguments: list[str] = field(default_factory=list)
    is_whole: bool = False

    def with_arguments(self, item: Json) -> Json:
        is_bare_call = item.get("type") == CALL and not item.get("arguments")
        return item | {"arguments": "".join(self.arguments)} if is_bare_call and self.arguments else item


class OutputItems:
    """The items of one reply so far."""

    __slots__ = ("_done", "_open")

    def __init__(self) -> None:
        self._done: list[tuple[int | None, Json]] = []
        self._open: list[_Open] = []

    def __bool__(self) -> bool:
        return bool(self._done)

    @property
    def are_open(self) -> bool:
        """Return whether one has begun and not ended."""
        return bool(self._open)

    @property
    def has_open_call(self) -> bool:
        """Return whether there is a call whose arguments are not known to be all there."""
        return any(not one.is_whole and one.item.get("type", CALL) == CALL for one in self._open)

    def begin(self, event: Json) -> None:
        """Take in an item of which not all is there."""
        if isinstance(item := event.get("item"), dict):
            self._open.append(_Open(index_in(event, "output_index"), item))

    def add_arguments(self, event: Json, piece: str) -> None:
        """Take in a piece of the arguments of a call."""
        self._of_event(event).arguments.append(piece)

    def end_arguments(self, event: Json, arguments: str) -> None:
        """Take in the whole arguments of a call."""
        one = self._of_event(event)
        one.arguments, one.is_whole = [arguments], True

    def end(self, event: Json) -> None:
        """Take in an item as it is at its end."""
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
        """Take in the list of the last event."""
        listed = [item for each in (output if isinstance(output, list) else ()) if (item := _typed(each)) is not None]
        if listed:
            if len(listed) > len(self._done):
                ended = [item for _, item in self._done]
                self._done = [(None, next((one for one in ended if _is_same(one, item)), item)) for item in listed]
            self._open.clear()

    def ordered(self) -> list[Json]:
        """The items in the order of the reply; of those that have not ended the calls."""
        found = [*self._done, *((one.index, one.with_arguments(one.item)) for one in self._open if _is_call(one.item))]
        indexes = [index for index, _ in found if index is not None]
        if len(set(indexes)) == len(found):
            found.sort(key=lambda each: each[0] or 0)
        return [item for _, item in found]

    def _of_event(self, event: Json) -> _Open:
        """The open item that an event is about."""
        index, item_id = index_in(event, "output_index"), event.get("item_id")
        for one in reversed(self._open):
            if item_id and one.item.get("id") == item_id:
                return one
        for one in reversed(self._open):
            if one.index == index and one.item.get("type", CALL) == CALL:
                return one
        self._open.append(_Open(index, {"id": item_id} if item_id else {}))
        return self._open[-1]

    def _begun(self, index: int | None, item: Json) -> _Open | None:
        """Return what the item was before its end: by its ids, else by its index, else the oldest of its kind."""
        kind = item.get("type")
        by_id = (one for one in self._open if _shares_id(one.item, item))
        by_index = (one for one in self._open if index is not None and one.index == index)
        by_kind = (one for one in self._open if one.item.get("type", kind) == kind)
        return next(chain(by_id, by_index, by_kind), None)


def of_type(items: list[Json], kind: str) -> Iterator[Json]:
    return (item for item in items if item.get("type") == kind)


def _is_call(item: Json) -> bool:
    return item.get("type") == CALL


def _typed(item: object) -> Json | None:
    """The item, with the type that messages may lack; None for what is none."""
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
