"""A YAML text as plain values, each with its line.

Reads a subset of YAML that needs no second thought: one document, text keys, no anchors, aliases, merges or tags, and
numbers in plain decimal. So nothing can expand, recurse or be constructed, no number is another one than it seems, and
every value has one line of its own. Knows nothing of what the values mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from agent_service.config.problems import Location, Problem, dotted

DEPTH_MAX = 36  # an output schema may have 32 levels, in `agents.name.output_schema`
NUMBER_LENGTH_MAX = 40

_TAG = "tag:yaml.org,2002:"
# Read as the text that they are: a date is no type of ours, and `=` and `<<` are relics.
_TEXT_TAGS = frozenset(_TAG + name for name in ("str", "timestamp", "value", "merge"))
_NUMBER_TAGS = frozenset({_TAG + "int", _TAG + "float"})
# To YAML 1.1, 010 is 8, 1:30 is 90 and 1_0 is 10; to YAML 1.2, two of these are text.
_SURPRISING = re.compile(r"[-+]?(0[0-9_]|0[bx]|.*[:_])", re.IGNORECASE)
_PLAIN = "must be in plain decimal, such as 8 or 0.5, without leading 0, colon or _; in quotes it is text"


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file. `tree` is made of dict, list, str, int, float, bool and None; `lines` has the line of every path
    in it, that of the key where there is one. `unread` are the paths whose None stands for what could not be read,
    `words` those of truth values that are written as yes, no, on or off. `source` is the file as its reader named it.
    """

    source: str
    tree: dict[str, Any] = field(repr=False)
    lines: Mapping[Location, int] = field(repr=False)
    unread: frozenset[Location] = field(repr=False)
    words: frozenset[Location] = field(default=frozenset(), repr=False)

    def line(self, path: Location) -> int:
        """The line of the path, or of the nearest thing around it; 0 where there is none."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def problem(self, path: Location, text: str) -> Problem:
        return Problem(self.source, self.line(path), dotted(path), text)

    def mappings(self, section: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The entries of a section that are mappings, and none where the section itself is not one."""
        entries = self.tree.get(section)
        for key, entry in entries.items() if isinstance(entries, dict) else ():
            if isinstance(entry, dict):
                yield key, entry

    def keys(self, section: str) -> list[str]:
        """The keys that a section declares, be their entries valid or not."""
        entries = self.tree.get(section)
        return list(entries) if isinstance(entries, dict) else []


def parse(text: str, source: str) -> tuple[Document | None, list[Problem]]:
    """The text as a document, and what is wrong with it; None where nothing can be said about its content."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        return None, [Problem(source, mark.line + 1 if mark else 0, "", f"is not valid YAML: {exc.problem}")]
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        return None, [Problem(source, line, "", "is not valid YAML: it has a character that does not print")]
    except (ValueError, OverflowError):  # PyYAML's own int() and chr(), of `%YAML 9…9` and "\\UFFFFFFFF"
        line = loader.line + 1 if loader else 0
        return None, [Problem(source, line, "", "is not valid YAML: it has a number that is too large")]
    if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
        return None, [Problem(source, 0, "", "is empty")]
    if not isinstance(node, yaml.MappingNode):
        return None, [Problem(source, node.start_mark.line + 1, "", "must be a mapping with `models` and `agents`")]
    builder = _Builder()
    tree = builder.build(node, ())
    document = Document(source, tree, builder.lines, frozenset(builder.unread), frozenset(builder.words))
    return document, [Problem(source, line, dotted(path), told) for line, path, told in builder.problems]


class _Loader(yaml.SafeLoader):
    """Composes nodes only. Refuses what expands (aliases) and what is too deep for the recursion of its base."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call] # untyped in PyYAML's stubs
        if getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not supported", problem_mark=event.start_mark)
        if self._depth == DEPTH_MAX:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {DEPTH_MAX}", problem_mark=event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Builder:
    """Turns nodes into values and remembers lines. Its recursion is bounded by DEPTH_MAX."""

    def __init__(self) -> None:
        self.lines: dict[Location, int] = {}
        self.problems: list[tuple[int, Location, str]] = []
        self.unread: set[Location] = set()
        self.words: set[Location] = set()
        self._scalars = yaml.constructor.SafeConstructor()

    def build(self, node: yaml.Node, path: Location) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        return self._refuse(node, path, "tags are not supported")

    def _mapping(self, node: yaml.MappingNode, path: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._tell(key_node, path, "a key must be text")
                continue
            # The text as written: an agent may be called `on` or `1`, whatever YAML takes that for.
            key = joined(key_node.value)
            if key is None:
                self._tell(key_node, (*path, key_node.value), "is not valid Unicode")
                continue
            if key in values:
                first = self.lines[(*path, key)]
                self._tell(key_node, (*path, key), f"is there already, in line {first}")
                continue
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            values[key] = self.build(value_node, (*path, key))
        return values

    def _scalar(self, node: yaml.ScalarNode, path: Location) -> Any:
        if node.tag in _TEXT_TAGS:
            text = joined(node.value)
            return self._refuse(node, path, "is not valid Unicode") if text is None else text
        if node.tag == _TAG + "null":
            return None
        try:
            if node.tag == _TAG + "bool":
                if node.value.lower() not in ("true", "false"):
                    self.words.add(path)
                return self._scalars.construct_yaml_bool(node)
            if node.tag in _NUMBER_TAGS and len(node.value) <= NUMBER_LENGTH_MAX:
                if _SURPRISING.match(node.value):
                    return self._refuse(node, path, _PLAIN)
                is_int = node.tag == _TAG + "int"
                return self._scalars.construct_yaml_int(node) if is_int else self._scalars.construct_yaml_float(node)
        except (ValueError, KeyError, IndexError):  # a tag that its text contradicts: `!!int x`
            return self._refuse(node, path, "is not the number that it says to be")
        return self._refuse(node, path, "is too long" if node.tag in _NUMBER_TAGS else "tags are not supported")

    def _refuse(self, node: yaml.Node, path: Location, text: str) -> None:
        self.unread.add(path)
        self._tell(node, path, text)

    def _tell(self, node: yaml.Node, path: Location, text: str) -> None:
        self.problems.append((node.start_mark.line + 1, path, text))


def joined(text: str) -> str | None:
    r"""The text, with the halves of surrogate pairs joined, as JSON escapes what is beyond "\uffff"; None where one
    half is left, which YAML can write as "\ud800" and nobody else can read.
    """
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return None
