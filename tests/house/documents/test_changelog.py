"""The changelog has the form that a release expects, and says nothing twice."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.version import Version

TEXT = (Path(__file__).parents[3] / "CHANGELOG.md").read_text("utf-8")
KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]  # in this order


def test_unreleased_comes_first_and_then_every_release_newest_first() -> None:
    first, *released = re.findall(r"^## (.+)$", TEXT, flags=re.MULTILINE)
    named = [re.fullmatch(r"(\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d", heading) for heading in released]
    versions = [Version(match[1]) for match in named if match]

    assert first == "Unreleased"
    assert len(versions) == len(released)
    assert versions == sorted(versions, reverse=True)


def test_each_release_has_the_usual_headings_once_and_in_order() -> None:
    for section in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]:
        headings = re.findall(r"^### (.+)$", section, flags=re.MULTILINE)
        assert headings == [kind for kind in KINDS if kind in headings]


def test_no_entry_stands_there_twice() -> None:
    entries = [" ".join(entry.split()) for entry in re.findall(r"^- (.+\n(?:  .+\n)*)", TEXT, flags=re.MULTILINE)]
    assert len(entries) > 40
    assert sorted({entry for entry in entries if entries.count(entry) > 1}) == []
