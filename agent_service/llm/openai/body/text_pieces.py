"""Joins text that arrives in pieces: two halves of a surrogate pair in two pieces become one character."""

from __future__ import annotations

import re

from agent_service.llm.token_counts import utf8_length

_SURROGATE = re.compile("[\ud800-\udfff]")
_FIRST_HALVES = ("\ud800", "\udbff")


class TextPieces:
    """The text of one partial reply. `bytes` is its length in UTF-8."""

    __slots__ = ("_half", "_new", "_taken", "bytes")

    def __init__(self) -> None:
        self.bytes = 0
        self._new: list[str] = []
        self._taken: list[str] = []
        self._half = ""

    def add(self, text: str) -> None:
        """Add a piece of text."""
        if not text.isascii() or self._half:
            if self._half or _SURROGATE.search(text):
                text = self._joined(text)
            self.bytes += utf8_length(text)
        else:
            self.bytes += len(text)
        self._new.append(text)

    def _joined(self, text: str) -> str:
        """Return the text in whole characters. A first half of a pair at its end is kept until the second arrives."""
        text, self._half = self._half + text, ""
        if text and _FIRST_HALVES[0] <= text[-1] <= _FIRST_HALVES[1]:
            text, self._half = text[:-1], text[-1]
        return whole_characters(text)

    def take(self) -> str:
        """Return the text since the last call; empty if there is none."""
        if not self._new:
            return ""
        text = self._new[0] if len(self._new) == 1 else "".join(self._new)
        self._taken.append(text)
        self._new.clear()
        return text

    def whole(self) -> str:
        """Return the whole text, with a replacement character for every single half of a pair."""
        if self._half:
            self._half = ""
            self.add("\ufffd")
        self.take()
        return "".join(self._taken)


def whole_characters(text: str) -> str:
    """Return the text as valid Unicode: pairs of surrogates joined, single ones replaced."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
