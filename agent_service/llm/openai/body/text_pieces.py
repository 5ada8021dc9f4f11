"""Text that comes in pieces, made whole: halves of a surrogate pair in two pieces are one character."""

from __future__ import annotations

import re

from agent_service.llm.token_counts import utf8_length

_SURROGATE = re.compile("[\ud800-\udfff]")
_FIRST_HALVES = ("\ud800", "\udbff")


class TextPieces:
    """The text of one reply so far. `bytes` is its length in UTF-8; `take` gives what has come since the last call."""

    __slots__ = ("_half", "_new", "_taken", "bytes")

    def __init__(self) -> None:
        self.bytes = 0
        self._new: list[str] = []
        self._taken: list[str] = []
        self._half = ""

    def add(self, text: str) -> None:
        """The model has written some more."""
        if not text.isascii() or self._half:
            if self._half or _SURROGATE.search(text):
                text = self._joined(text)
            self.bytes += utf8_length(text)
        else:
            self.bytes += len(text)
        self._new.append(text)

    def _joined(self, text: str) -> str:
        """The text in whole characters. The first half of a pair at its end waits for the second."""
        text, self._half = self._half + text, ""
        if text and _FIRST_HALVES[0] <= text[-1] <= _FIRST_HALVES[1]:
            text, self._half = text[:-1], text[-1]
        return whole_characters(text)

    def take(self) -> str:
        """The text since the last call; empty if there is none."""
        if not self._new:
            return ""
        text = self._new[0] if len(self._new) == 1 else "".join(self._new)
        self._taken.append(text)
        self._new.clear()
        return text

    def whole(self) -> str:
        """All of it. A half that stayed alone is a replacement character."""
        if self._half:
            self._half = ""
            self.add("\ufffd")
        self.take()
        return "".join(self._taken)


def whole_characters(text: str) -> str:
    """The text as Unicode: pairs of surrogates joined, single ones replaced."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
