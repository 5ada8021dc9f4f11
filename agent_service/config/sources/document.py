"""The configuration file as plain values, each with its line. Independent of their meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from agent_service.config.problems import Problem, dotted
from agent_service.text.yaml_document import Location, UnreadableYamlError, YamlDocument, read_yaml


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file. `source` is the file's name as given to the reader."""

    source: str
    yaml: YamlDocument = field(repr=False)

    @property
    def tree(self) -> dict[str, Any]:
        tree: dict[str, Any] = self.yaml.tree
        return tree

    def problem(self, path: Location, text: str) -> Problem:
        return Problem(self.source, self.yaml.line(path), dotted(path), text)

    def mappings(self, section: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the entries of a section that are mappings; none if the section is not a mapping."""
        entries = self.tree.get(section)
        for key, entry in entries.items() if isinstance(entries, dict) else ():
            if isinstance(entry, dict):
                yield key, entry

    def keys(self, section: str) -> list[str]:
        """Return the keys of a section, including those of invalid entries."""
        entries = self.tree.get(section)
        return list(entries) if isinstance(entries, dict) else []


def parse(text: str, source: str) -> tuple[Document | None, list[Problem]]:
    """Parse the text. Return the document, None if it cannot be parsed, and the problems."""
    try:
        yaml = read_yaml(text)
    except UnreadableYamlError as exc:
        return None, [Problem(source, exc.line, "", str(exc))]
    if not isinstance(yaml.tree, dict):
        return None, [Problem(source, yaml.line(()), "", "must be a mapping with `models` and `agents`")]
    return Document(source, yaml), [Problem(source, flaw.line, dotted(flaw.path), flaw.text) for flaw in yaml.flaws]
