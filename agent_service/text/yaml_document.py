r"""A YAML text as plain values, each with its line.

Reads a subset of YAML: one document, text keys, no anchors, aliases, merges or tags, and numbers in plain decimal. So
nothing can expand, recurse or be constructed, no number differs from what it looks like, and every value has one line.
Independent of the meaning of the values. Errors do not repeat the text, except `UnreadableYamlError.detail`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

DEPTH_MAX = 36  # an output schema may have 32 levels, in `agents.name.output_schema`
NUMBER_LENGTH_MAX = 40

Location = tuple[str | int, ...]  # of a value in a text: ("rate_limits", 0, "per")

_TAG = "tag:yaml.org,2002:"
# Read as text: dates are not supported, and `=` and `<<` are relics.
_TEXT_TAGS = frozenset(_TAG + name for name in ("str", "timestamp", "value", "merge"))
_NUMBER_TAGS = frozenset({_TAG + "int", _TAG + "float"})
_PLAIN_TAGS = _TEXT_TAGS | _NUMBER_TAGS | {_TAG + "bool"}
# In YAML 1.1, 010 is 8, 1:30 is 90 and 1_0 is 10; in YAML 1.2, two of these are text.
_SURPRISING = re.compile(r"[-+]?(0[0-9_]|0[bx]|.*[:_])", re.IGNORECASE)
_PLAIN = "must be in plain decimal, such as 8 or 0.5, without leading 0, colon or _; in quotes it is text"


class UnreadableYamlError(Exception):
    """The text cannot be parsed. `line` counts from 1; 0: unknown.

    `text` is one clause that does not repeat the YAML; `detail` is PyYAML's reason, which may.
    """

    def __init__(self, line: int, text: str, detail: str = "") -> None:
        super().__init__(f"{text}: {detail}" if detail else text)
        self.line = line
        self.text = text


class Flaw(NamedTuple):
    """A place that cannot be read."""

    line: int
    path: Location
    text: str


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """A parsed text. `tree` is made of dict, list, str, int, float, bool and None; `lines` has the line of every path
    in it, for a mapping's value the line of its key. `unread` are the paths whose None replaces an unreadable value,
    `words` those of booleans written as yes, no, on or off.
    """

    tree: Any = field(repr=False)
    flaws: tuple[Flaw, ...]
    lines: Mapping[Location, int] = field(repr=False)
    unread: frozenset[Location] = field(repr=False)
    words: frozenset[Location] = field(repr=False)

    def line(self, path: Location) -> int:
        """Return the line of the path, or of the nearest enclosing path."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


def read_yaml(text: str, *, scalars_are_text: bool = False) -> YamlDocument:
    """Parse the text into plain values. `scalars_are_text`: all scalars except null stay text, such as ids of digits.

    Raises:
        UnreadableYamlError: it is empty or not YAML, has anchors or aliases, or is nested deeper than DEPTH_MAX.
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        raise UnreadableYamlError(mark.line + 1 if mark else 0, "is not valid YAML", str(exc.problem)) from None
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise UnreadableYamlError(line, "is not valid YAML: it has a character that does not print") from None
    except (ValueError, OverflowError):  # PyYAML's own int() and chr(), of `%YAML 9…9` and "\\UFFFFFFFF"
        line = loader.line + 1 if loader else 0
        raise UnreadableYamlError(line, "is not valid YAML: it has a number that is too large") from None
    if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
        raise UnreadableYamlError(0, "is empty")
    builder = _Builder(scalars_are_text)
    tree = builder.build(node, ())
    return YamlDocument(tree, tuple(builder.flaws), builder.lines, frozenset(builder.unread), frozenset(builder.words))


class _Loader(yaml.SafeLoader):
    """Only composes nodes. Rejects aliases, which expand, and nesting too deep for the recursion of its base."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call] # untyped in PyYAML's stubs
        line = event.start_mark.line + 1
        if getattr(event, "anchor", None) is not None:
            raise UnreadableYamlError(line, "is not valid YAML: anchors and aliases are not supported")
        if self._depth == DEPTH_MAX:
            raise UnreadableYamlError(line, f"is not valid YAML: nested deeper than {DEPTH_MAX}")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Builder:
    """Converts nodes into values and records lines. Its recursion is limited by DEPTH_MAX."""

    def __init__(self, scalars_are_text: bool) -> None:
        self.lines: dict[Location, int] = {}
        self.flaws: list[Flaw] = []
        self.unread: set[Location] = set()
        self.words: set[Location] = set()
        self._text_tags = _PLAIN_TAGS if scalars_are_text else _TEXT_TAGS
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
                self._add_flaw(key_node, path, "a key must be text")
                continue
            # The key as written: an agent may be named `on` or `1`, although YAML gives these a type.
            key = joined(key_node.value)
            if key is None:
                self._add_flaw(key_node, (*path, key_node.value), "is not valid Unicode")
                continue
            if key in values:
                first = self.lines[(*path, key)]
                self._add_flaw(key_node, (*path, key), f"is a duplicate of line {first}")
                continue
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            values[key] = self.build(value_node, (*path, key))
        return values

    def _scalar(self, node: yaml.ScalarNode, path: Location) -> Any:
        if node.tag in self._text_tags:
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
            return self._refuse(node, path, "is not a number, unlike its tag")
        return self._refuse(node, path, "is too long" if node.tag in _NUMBER_TAGS else "tags are not supported")

    def _refuse(self, node: yaml.Node, path: Location, text: str) -> None:
        self.unread.add(path)
        self._add_flaw(node, path, text)

    def _add_flaw(self, node: yaml.Node, path: Location, text: str) -> None:
        self.flaws.append(Flaw(node.start_mark.line + 1, path, text))


def joined(text: str) -> str | None:
    r"""Return the text with surrogate pairs joined, as JSON escapes characters beyond "\uffff". None if a single
    surrogate is left: YAML can write it as "\ud800", but it is not valid Unicode.
    """
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return None
