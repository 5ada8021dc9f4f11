"""The names nearest to one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

from agent_service.text.paths import quoted

LISTED_MAX = 20
NEAREST_MAX = 5


def nearest(name: str, known: Iterable[str], count: int = NEAREST_MAX, cutoff: float = 0.6) -> list[str]:
    """At most so many of the known names, the nearest first. `cutoff`: how much of both must agree, from 0 to 1."""
    return difflib.get_close_matches(name, list(known), n=count, cutoff=cutoff)


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6, written: Callable[[str], str] = str) -> str:
    """`; did you mean API_PORT?`, or nothing. `written` is how the name is written, such as in quotes."""
    close = nearest(name, known, 1, cutoff)
    return f"; did you mean {written(close[0])}?" if close else ""


def not_among(name: str, kind: str, known: Iterable[str]) -> str:
    """`'fast' is not a model; models: local, smart`; of many, only the nearest are listed."""
    names = sorted(known)
    if len(names) > LISTED_MAX:
        names = nearest(name, names) or [*names[:LISTED_MAX], "…"]
    article = "an" if kind[0] in "aeiou" else "a"
    return f"{quoted(name)} is not {article} {kind}; {kind}s: {', '.join(names) or 'none'}"
