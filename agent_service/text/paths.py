"""Places in a document as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Path = Sequence[str | int]

ECHO_MAX = 64


def dotted(path: Path, write_name: Callable[[str], str] = ".{}".format) -> str:
    """Return `agents.assistant.tools[1]` for ("agents", "assistant", "tools", 1).

    `write_name` writes a step that is a name, with the dot or bracket before it.
    """
    return "".join(f"[{step}]" if isinstance(step, int) else write_name(step) for step in path).removeprefix(".")


def quoted(text: str) -> str:
    """Return the text in quotes, on one line, truncated if it is long."""
    return repr(text if len(text) <= ECHO_MAX else text[:ECHO_MAX] + "…")


def quoted_if_odd(name: str) -> str:
    """Return a name of a path, in quotes if it is not printable or long."""
    return name if name.isprintable() and len(name) <= ECHO_MAX else quoted(name)
