"""Known names similar to an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

from agent_service.text.paths import quoted

LISTED_MAX = 20
NEAREST_MAX = 5


def nearest(name: str, known: Iterable[str], count: int = NEAREST_MAX, cutoff: float = 0.6) -> list[str]:
    """Return at most `count` known names, the most similar first. `cutoff`: the minimum similarity, from 0 to 1."""
    return difflib.get_close_matches(name, list(known), n=count, cutoff=cutoff)


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6, written: Callable[[str], str] = str) -> str:
    """Return `; did you mean API_PORT?`, or "". `written` formats the name, such as in quotes."""
    close = nearest(name, known, 1, cutoff)
    return f"; did you mean {written(close[0])}?" if close else ""


def not_among(name: str, kind: str, known: Iterable[str]) -> str:
    """Return `'fast' is not a model; models: local, smart`; of many names, only similar ones are listed."""
    names = sorted(known)
    if len(names) > LISTED_MAX:
        names = nearest(name, names) or [*names[:LISTED_MAX], "…"]
    article = "an" if kind[0] in "aeiou" else "a"
    return f"{quoted(name)} is not {article} {kind}; {kind}s: {', '.join(names) or 'none'}"
