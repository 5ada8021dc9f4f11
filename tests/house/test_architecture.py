"""What ARCHITECTURE.md says of the tree is so."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "agent_service"
TEXT = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
LINE = re.compile(r"^    (?P<indent> *)(?P<name>[\w.]+/?) {2,}(?P<text>\S.*)$|^    agent_service/$", re.MULTILINE)
# A callback that a user sets on an object that exists already.
SET_LATER = re.compile(r"^\s+\w+\.(?P<name>on_[a-z]+) = (?!ON_)", re.MULTILINE)
TRIP = "One RunTask, file by file"
# What may run beside any task, because its time has come; the sweeps ask what waits in line.
BACKGROUND = re.compile(
    r"engine/(sweeps/\w+|dispatch/(line|fair_queue))\.py|observe/loop_lag\.py|server/readiness\.py|bootstrap/\w+\.py"
)
# What the trip names though a task without errors does not enter it.
AROUND = {"errors.py", "server/stack.py", "server/status.py"}


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, flags=re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def drawn() -> Iterator[str]:
    """The places of the figure, relative to the package."""
    parents: list[str] = []
    for found in LINE.finditer(section("Where things live")):
        if found["name"]:
            depth = len(found["indent"]) // 2
            parents[depth - 1 :] = [found["name"]]
            yield "".join(parents)


def standing() -> set[str]:
    """The packages of the tree, and the modules beside them at its top."""
    packages = {f"{path.parent.relative_to(PACKAGE)}/" for path in PACKAGE.rglob("__init__.py")}
    return packages | {path.name for path in PACKAGE.glob("*.py")} - {"__main__.py"}


def test_the_figure_shows_every_package_and_nothing_else() -> None:
    assert sorted(drawn()) == sorted(standing())


def passed() -> set[str]:
    """The files of the trip. A name without a folder stands beside the file that is named before it."""
    folder, places = "", set()
    for name in re.findall(r"`([\w/]+\.py)`", section(TRIP)):
        place = name if "/" in name or (PACKAGE / name).is_file() else f"{folder}/{name}"
        folder = str(Path(place).parent)
        places.add(place)
    return places


def test_the_trip_names_files_that_exist() -> None:
    assert len(passed()) > 50
    assert {place for place in passed() if not (PACKAGE / place).is_file()} == set()


def test_the_trip_names_every_file_that_a_task_enters(tmp_path: Path) -> None:
    """Counted as by `make bench-breadth`, at a server with the scripted model."""
    subprocess.run(
        [sys.executable, "-m", "bench.breadth", "--rounds", "5", "--list", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    entered = set(re.findall(r"([\w/]+\.py):", (tmp_path / "plain-RunTask").read_text("utf-8")))

    assert len(entered) > 30
    assert {place for place in entered if not BACKGROUND.fullmatch(place)} - passed() == set()
    assert passed() - entered == AROUND


def test_the_layers_are_those_that_the_linter_holds() -> None:
    written = re.search(r"^    __main__ ->.*?(?=\n\n)", section("Rules of dependency"), flags=re.DOTALL | re.MULTILINE)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]

    assert written
    layers = [set(re.findall(r"\w+", layer)) for layer in written[0].split("->")]
    assert layers == [set(layer.split(" | ")) for layer in contracts[0]["layers"]]


def test_every_callback_that_is_set_later_is_named() -> None:
    found = {
        match["name"]
        for path in PACKAGE.rglob("*.py")
        for match in SET_LATER.finditer(path.read_text("utf-8"))
        if "self." not in match[0].split("=")[0] and match["name"] != "on_disconnect"
    }

    assert {name for name in found if f"`{name}`" not in TEXT} == set()


def test_no_protocol_has_more_than_five_methods() -> None:
    """`Assembler` is no port: it is what the two readers of replies in one adapter have in common."""
    large = {
        node.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).startswith("Protocol") for base in node.bases)
        and sum(isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) for part in node.body) > 5
    }

    assert large <= {"Assembler"}
