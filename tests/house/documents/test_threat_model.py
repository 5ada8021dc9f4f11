"""Every line of the threat model names a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
ROW = re.compile(r"^\| (?!threat \||-)(?P<threat>[^|]+) \| (?P<stands>[^|]+) \| (?P<test>[^|]+) \|$", re.MULTILINE)


def rows() -> list[dict[str, str]]:
    return [match.groupdict() for match in ROW.finditer((ROOT / "docs" / "threat-model.md").read_text("utf-8"))]


def exists(named: str) -> bool:
    """Whether `tests/a/test_b.py` or `tests/a/test_b.py::test_c` is there."""
    path, _, name = named.partition("::")
    if not (ROOT / path).is_file():
        return False
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return name in functions if name else any(function.startswith("test_") for function in functions)


def test_every_threat_has_a_test_that_exists() -> None:
    table = [line for line in (ROOT / "docs" / "threat-model.md").read_text("utf-8").splitlines() if line[:1] == "|"]
    found = rows()

    assert len(found) > 20
    assert len(found) == len([line for line in table if not line.startswith(("| threat", "|---"))]), "each has 3 cells"
    missing = [name for row in found for name in re.findall(r"`([^`]+)`", row["test"]) if not exists(name)]
    assert missing == []
    assert [row["threat"] for row in found if "`" not in row["test"]] == []
