"""Extracts a value from a JSON document, so that a model need not read all of it.

Paths are RFC 6901 JSON Pointers (`/a/b/0`, with `~0` for `~` and `~1` for `/`), or this subset of JSONPath (RFC 9535):
`$`, `.name`, `['name']`, `[0]`, `[-1]`, and `[*]` or `.*` for every element. No filters, slices or `..`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field

from agent_service.errors import ToolError
from agent_service.tools.decorator import tool

DOCUMENT_CHARACTERS_MAX = 1024 * 1024
PATH_CHARACTERS_MAX = 500
KEYS_LISTED_MAX = 10
KEY_CHARACTERS_MAX = 40

_STEP = re.compile(
    r"""\.(?P<name>[^\s.\[\]'"*]+) | \[(?P<index>-?[0-9]{1,9})\] | (?P<every>\[\*\]|\.\*)
    | \['(?P<single>[^']*)'\] | \["(?P<double>[^"]*)"\]""",
    re.VERBOSE,
)
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


@tool(side_effect="read_only")
def json_query(
    document: Annotated[
        dict[str, Any] | list[Any] | Annotated[str, Field(max_length=DOCUMENT_CHARACTERS_MAX)],
        Field(description="The document: JSON itself, or a string with the text of it."),
    ],
    path: Annotated[
        str,
        Field(
            max_length=PATH_CHARACTERS_MAX,
            description="JSONPath such as $.orders[0].id or $.orders[*].id, or a JSON Pointer such as /orders/0/id.",
        ),
    ],
) -> Any:
    """Take one value out of a JSON document by its path. With [*] it is the list of all values that match."""
    return find(_parsed(document) if isinstance(document, str) else document, path)


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of a path: a member's name, an index, or None for every element. It ends before character `end`."""

    key: str | int | None
    end: int


def find(document: Any, path: str) -> Any:
    """Return the value at `path`; with a wildcard, the list of all values that match, in order.

    Raises:
        ToolError: the path is malformed, or has no match; the message names the part that matched.
    """
    steps = _steps(path)
    nodes = [document]
    led_to = path[:1] if path.startswith("$") else ""
    for step in steps:
        found = [child for node in nodes for child in _children(node, step.key)]
        # A wildcard may match nothing in an empty value. Other steps must match, or a misspelt name would look like no
        # data.
        is_empty = step.key is None and any(isinstance(node, dict | list) for node in nodes)
        if nodes and not found and not is_empty:
            raise ToolError(f"{led_to or 'the document'} {_lack(nodes, step.key)}")
        nodes, led_to = found, path[: step.end]
    return nodes if any(step.key is None for step in steps) else nodes[0]


def _parsed(text: str) -> Any:
    try:
        # Decimal keeps all digits of numbers.
        return json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ToolError(
            f"document is not valid JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from None
    except RecursionError:
        raise ToolError("document is nested too deeply") from None
    except ValueError:
        raise ToolError("document holds an integer with too many digits") from None


def _refuse_constant(name: str) -> Any:
    raise ToolError(f"document is not valid JSON: {name} is not")


def _steps(path: str) -> list[_Step]:
    if path.startswith("$"):
        return _json_path_steps(path)
    if path and not path.startswith("/"):
        raise ToolError("path must begin with $ (JSONPath) or / (JSON Pointer)")
    steps: list[_Step] = []
    end = 0
    for part in path.split("/")[1:]:
        end += 1 + len(part)
        steps.append(_Step(part.replace("~1", "/").replace("~0", "~"), end))
    return steps


def _json_path_steps(path: str) -> list[_Step]:
    steps: list[_Step] = []
    position = 1
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            raise ToolError(
                f"path is not understood from character {position + 1} on; known: .name ['name'] [0] [-1] [*]"
            )
        position = match.end()
        key = match["name"] or match["single"] or match["double"] or ""
        steps.append(_Step(None if match["every"] else int(match["index"]) if match["index"] else key, position))
    return steps


def _children(node: Any, key: str | int | None) -> Sequence[Any]:
    match node, key:
        case dict(), None:
            return list(node.values())
        case list(), None:
            return node
        case dict(), str() if key in node:
            return [node[key]]
        case list(), int() if -len(node) <= key < len(node):
            return [node[key]]
        # JSON Pointer writes indices like names.
        case list(), str() if _INDEX.fullmatch(key) and int(key) < len(node):
            return [node[int(key)]]
    return []


def _lack(nodes: Sequence[Any], key: str | int | None) -> str:
    """Describe the last matched value, or the first of several, which lacks the next step."""
    prefix = "" if len(nodes) == 1 else f"has {len(nodes)} values and none fits; the first "
    wanted = "has no elements" if key is None else f"has no {_cut(key)}"
    match nodes[0]:
        case dict() as members:
            names = ", ".join(_cut(name) for name in list(members)[:KEYS_LISTED_MAX])
            more = ", …" if len(members) > KEYS_LISTED_MAX else ""
            return f"{prefix}is an object and {wanted}; it has: {names or 'nothing'}{more}"
        case list() as elements:
            return f"{prefix}is an array of {len(elements)} and {wanted}; it takes an index from 0, or [*]"
    return f"{prefix}is neither object nor array and {wanted}"


def _cut(key: str | int) -> str:
    return json.dumps(key[:KEY_CHARACTERS_MAX] if isinstance(key, str) else key, ensure_ascii=False)
