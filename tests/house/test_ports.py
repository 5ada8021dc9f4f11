"""The ports are small, and each user names the ones that it uses."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from agent_service.engine.dispatch.base import Dispatcher, LineView
from agent_service.feed.base import Channel, FeedReader, FeedWriter
from agent_service.limits.base import Limiter
from agent_service.store import base
from agent_service.tools.toolset import Toolset

PACKAGE = Path(__file__).parents[2] / "agent_service"
METHODS_MAX = 5
NAMES_ALL = re.compile(r"\bstore\.base import\b[^(\n]*\bDatabase\b|^    Database,$", re.MULTILINE)
PORTS = [
    Channel,
    Dispatcher,
    FeedReader,
    FeedWriter,
    Limiter,
    LineView,
    Toolset,
    base.Journal,
    base.TaskIndex,
    base.Workers,
    base.UsageLedger,
    base.Retention,
    base.History,
]


def methods(port: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(port, inspect.isfunction) if not name.startswith("_")}


@pytest.mark.parametrize("port", PORTS, ids=lambda port: port.__name__)
def test_a_port_has_few_methods(port: type) -> None:
    assert 0 < len(methods(port)) <= METHODS_MAX


def test_no_method_stands_in_two_ports_of_the_store() -> None:
    ports = [port for port in PORTS if port.__module__ == base.__name__]
    assert sum(len(methods(port)) for port in ports) == len(methods(base.Database))


def test_the_whole_store_is_named_by_the_composition_root_alone() -> None:
    naming = {
        str(file.relative_to(PACKAGE)) for file in PACKAGE.rglob("*.py") if NAMES_ALL.search(file.read_text("utf-8"))
    }
    assert naming <= {"bootstrap/assemble.py", "bootstrap/parts.py"}
