"""Which tests may run beside which, where `make test` runs them in several processes.

    @pytest.mark.alone                 runs while no other test runs: it measures times
    @pytest.mark.together("java")      the tests of a group run in one process, one after the other

The tests that share a fixture of their module are a group, unless a mark says otherwise, so that it is made once.
Long tests begin first, tests that run alone come last. In a single process nothing of this changes what runs.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Generator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

TESTS = Path(__file__).parents[1]
# Folders whose tests last longest, in the order in which they begin; all others follow.
LONGEST_FIRST = ("clients", "faults", "e2e")
ALONE = "alone"
TOGETHER = "together"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{ALONE}: runs while no other test runs")
    config.addinivalue_line("markers", f"{TOGETHER}(group): the tests of a group run in one process")
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Worker(Path(config.workerinput["directory"])))
    elif config.getoption("tx", None):
        config.pluginmanager.register(Workers())


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes `-n auto` starts. Tests mostly wait, so there are more than cores."""
    return 2 * (os.cpu_count() or 1) + 1


class Workers:
    """The process that starts the others and shows what they report."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="workers-")

    @pytest.hookimpl
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["directory"] = self._directory.name

    @pytest.hookimpl(tryfirst=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Producer) -> Groups:
        config.option.loadscopereorder = False
        return Groups(config, log, Path(self._directory.name))

    def pytest_unconfigure(self) -> None:
        self._directory.cleanup()


class Groups(LoadScopeScheduling):  # type: ignore[misc] # it has no types
    """Gives a worker the tests of a group, or one test, at a time.

    `--dist loadgroup` of pytest-xdist 3.8 does not: it writes groups into the ids of tests, which pytest 9.2 ignores.
    """

    def __init__(self, config: pytest.Config, log: Producer, directory: Path) -> None:
        super().__init__(config, log)
        self._directory = directory

    @cached_property
    def _groups(self) -> dict[str, str]:
        """The groups of tests, as a worker found them when it collected."""
        groups: dict[str, str] = json.loads((self._directory / "groups").read_text("utf-8"))
        return groups

    def _split_scope(self, nodeid: str) -> str:
        return self._groups.get(nodeid, nodeid)


class Worker:
    """A process that runs tests. All of one run share a lock, which a test that runs alone holds alone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._turns = os.open(directory / "turns", os.O_CREAT | os.O_RDWR)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        groups = {item.nodeid: group for item in items if (group := _group(item))}
        mine = self._directory / f"groups.{os.getpid()}"
        mine.write_text(json.dumps(groups), "utf-8")
        mine.rename(self._directory / "groups")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Wait before the test's timeout begins."""
        fcntl.flock(self._turns, fcntl.LOCK_EX if _is_alone(item) else fcntl.LOCK_SH)
        try:
            return (yield)
        finally:
            fcntl.flock(self._turns, fcntl.LOCK_UN)

    def pytest_unconfigure(self) -> None:
        os.close(self._turns)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_rank)  # which keeps the order within a folder


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker(ALONE) is not None


def _group(item: pytest.Item) -> str:
    """The group of a test; empty if it has none."""
    if _is_alone(item):
        return ALONE
    if marker := item.get_closest_marker(TOGETHER):
        return str(marker.args[0])
    return item.nodeid.partition("::")[0] if _shares_fixture(item) else ""


def _shares_fixture(item: pytest.Item) -> bool:
    """Whether it uses a fixture that is made once for a module of ours."""
    found = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    return any(fixtures[-1].scope == "module" and fixtures[-1].baseid for fixtures in found.values())


def _rank(item: pytest.Item) -> int:
    if _is_alone(item):
        return len(LONGEST_FIRST) + 1
    folder = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)
