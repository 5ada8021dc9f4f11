"""Folders stay small, one name of a module means one thing, and every package has a map."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES_MAX = 15

# Names that several packages have, and the one noun that each of them means.
SHARED = {
    "admission": "how many calls may be under way: the interceptor, and its variables",
    "base": "the port of its package",
    "catalog": "the agents and tools of a configuration: the value, and how bootstrap builds it",
    "commands": "CancelTask, ResumeTask and the like: on the wire, and in the domain's terms",
    "config": "the configuration: the package, and the command about it",
    "connections": "a client's connections to the server: their bounds, and the variables of these",
    "doctor": "`agent-service doctor`: the command, and its checks",
    "dump": "the dump of a process: the command that asks for it, and the writer",
    "errors": "the errors of its package, or of the program",
    "health": "the health of a server: served, and asked for",
    "ids": "ids: the form of all, and those that the service gives",
    "keys": "the keys: the package, and the command about them",
    "limits": "limits on callers: the package, and its variables",
    "memory": "the adapter in memory for the port of its package",
    "metrics": "the metrics: all of them, and the interceptor that counts calls",
    "models": "the configured models: built by bootstrap, and their variables",
    "process": "the process as a whole: its life, and its variables",
    "reply": "a model's reply over the API of its package",
    "request": "a request to a model over the API of its package",
    "requests": "the requests of our contract: built by the client, bounded by the service",
    "runner": "what runs the tasks, or the tool calls, of its package",
    "store": "the store: the package, its variables, and the commands on its file",
    "surroundings": "what libraries read from the environment: named, and tried",
    "tasks": "tasks: accepted, converted for the wire, and commanded",
    "tls": "TLS: the package, its variables, the server's side, and the client's",
    "tokens": "JSON Web Tokens: checked, and their variables",
    "tools": "tools: the package, and the command about them",
    "usage": "what was used: tokens, cost and calls",
}


def modules(folder: str) -> Iterator[Path]:
    """The written modules below a folder, without those that make a folder a package."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        if path.name != "__init__.py" and "v1" not in path.relative_to(ROOT).parts:
            yield path


def packages() -> list[Path]:
    found = sorted((ROOT / "agent_service").rglob("__init__.py"))
    return [path.parent for path in found if "v1" not in path.relative_to(ROOT).parts]


@pytest.mark.parametrize("folder", ["agent_service", "tests", "scripts", "bench"])
def test_no_folder_has_more_than_15_modules(folder: str) -> None:
    count: dict[str, int] = defaultdict(int)
    for path in modules(folder):
        count[str(path.parent.relative_to(ROOT))] += 1

    assert count
    assert {name: number for name, number in count.items() if number > MODULES_MAX} == {}


def names() -> dict[str, set[str]]:
    """The names of modules and packages, and where each stands."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in [*modules("agent_service"), *packages()]:
        found[path.stem].add(str(path.relative_to(ROOT)))
    return found


def test_modules_share_a_name_only_where_it_is_one_noun() -> None:
    shared = {name: places for name, places in names().items() if len(places) > 1 and not _are_nested(places)}

    assert {name: sorted(places) for name, places in shared.items() if name not in SHARED} == {}
    assert SHARED.keys() - shared.keys() == set()


def _are_nested(places: set[str]) -> bool:
    """Whether one is the folder of the other, such as service/service.py."""
    folders = sorted(place.removesuffix(".py") for place in places)
    return all(place.startswith(f"{folders[0]}/") for place in folders[1:])


@pytest.mark.parametrize("package", packages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_docstring_of_a_package_is_its_map(package: Path) -> None:
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8"))) or ""
    inside = {path.stem for path in package.glob("*.py")} - {"__init__"}
    inside |= {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}

    assert text
    assert inside - {"v1/"} - set(re.findall(r"`([\w/]+)`", text)) == set()


@pytest.mark.parametrize("package", packages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_map_lists_nothing_that_is_not_there(package: Path) -> None:
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8"))) or ""
    heads = re.findall(r"^- ((?:`[\w/]+`(?:, )?)+):", text, flags=re.MULTILINE)
    listed = {name for head in heads for name in re.findall(r"`([\w/]+)`", head)}

    assert {name for name in listed if not _is_in(package, name)} == set()


def _is_in(package: Path, name: str) -> bool:
    return (package / name).is_dir() if name.endswith("/") else (package / f"{name}.py").is_file()
