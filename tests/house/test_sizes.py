"""Modules stay small, and none needs itself."""

from __future__ import annotations

import graphlib
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
LINES_MAX = 400


def written_modules() -> Iterator[Path]:
    for folder in ("agent_service", "bench", "scripts", "tests"):
        yield from (path for path in (ROOT / folder).rglob("*.py") if "v1" not in path.relative_to(ROOT).parts)


def test_no_module_is_longer_than_400_lines() -> None:
    lines = {str(path.relative_to(ROOT)): path.read_text("utf-8").count("\n") for path in written_modules()}

    assert lines
    assert {path: count for path, count in lines.items() if count > LINES_MAX} == {}


def test_imports_run_in_no_circle() -> None:
    graph = grimp.build_graph("agent_service", cache_dir=None)
    imported_by = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}

    assert len(imported_by) > 10
    try:
        graphlib.TopologicalSorter(imported_by).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"imports run in a circle: {' -> '.join(reversed(error.args[1]))}", pytrace=False)
