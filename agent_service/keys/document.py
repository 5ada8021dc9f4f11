"""A YAML text as plain values, with the line of each. Knows nothing of keys.

Every scalar is the text that is written there, or None for a null: ids that look like numbers or dates stay as they
are. What it says of a faulty text never repeats any of it, for the text may hold a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

DEPTH_MAX = 20

Location = tuple[str | int, ...]  # ("keys", 0, "tenant")


@dataclass(frozen=True, slots=True)
class Document:
    """`tree` is made of dict, list, str and None; `lines` has the line of every path in it, counted from 1.

    `twice` are the paths of keys that a mapping has more than once, each with the line of the second.
    """

    tree: Any = field(repr=False)
    lines: Mapping[Location, int] = field(repr=False)
    twice: tuple[tuple[Location, int], ...] = field(repr=False)

    def line(self, path: Location) -> int:
        """The line of the path, or of the nearest thing around it."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


class NotYamlError(Exception):
    """The text cannot be read. `line` counts from 1; 0: not known. The message is one clause."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def parse(text: str) -> Document:
    """Read one YAML document.

    Raises:
        NotYamlError: the text is not YAML, is empty, is nested deeper than DEPTH_MAX, or has anchors, tags,
            text that is not Unicode, or keys that are not text.
    """
    try:
        node = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NotYamlError(mark.line + 1 if mark else 0, "is not valid YAML") from None
    except (yaml.YAMLError, ValueError, OverflowError):  # what does not print; and PyYAML's own int() and chr()
        raise NotYamlError(0, "is not valid YAML") from None
    if node is None:
        raise NotYamlError(0, "is empty")
    reading = _Reading()
    tree = reading.value(node, ())
    return Document(tree, reading.lines, tuple(reading.twice))


class _Loader(yaml.SafeLoader):
    """Composes nodes only, and refuses what could make a small text endless or its reading too deep."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        try:
            # The halves of a surrogate pair, as JSON escapes it, are joined; YAML can also write one half alone.
            node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise NotYamlError(node.start_mark.line + 1, "has text that is not valid Unicode") from None
        return node

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call] # untyped in PyYAML's stubs
        line = event.start_mark.line + 1
        if getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None:
            raise NotYamlError(line, "anchors, aliases and tags are not supported")
        if self._depth == DEPTH_MAX:
            raise NotYamlError(line, "is nested too deeply")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Reading:
    def __init__(self) -> None:
        self.lines: dict[Location, int] = {}
        self.twice: list[tuple[Location, int]] = []

    def value(self, node: yaml.Node, path: Location) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return None if node.tag == "tag:yaml.org,2002:null" else node.value

    def _mapping(self, node: yaml.MappingNode, path: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, value in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, yaml.ScalarNode):
                raise NotYamlError(line, "has a key that is not text")
            if name.value in values:
                self.twice.append(((*path, name.value), line))
                continue
            self.lines[(*path, name.value)] = line
            values[name.value] = self.value(value, (*path, name.value))
        return values
