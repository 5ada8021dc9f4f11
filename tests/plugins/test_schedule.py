"""The plugin, in runs of pytest of its own with several processes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = """
import os, time
import pytest

def note(name):
    with open("notes", "a") as file:
        file.write(f"{name} {os.environ.get('PYTEST_XDIST_WORKER')}\\n")

@pytest.fixture(scope="module")
def shared():
    note("made")

@pytest.mark.alone
@pytest.mark.parametrize("number", range(2))
def test_alone(number):
    note("begin")
    time.sleep(0.1)
    note("end")

@pytest.mark.together("group")
@pytest.mark.parametrize("number", range(4))
def test_together(number):
    note("together")

@pytest.mark.parametrize("number", range(4))
def test_sharing(shared, number):
    note("sharing")

@pytest.mark.parametrize("number", range(20))
def test_other(number):
    note("other")

@pytest.mark.needs("no-such-tool")
def test_with_a_tool():
    note("tool")
"""


def test_groups_share_a_process_and_what_is_alone_runs_by_itself(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(test_it=TESTS)
    plugins = ("-p", "tests.plugins.schedule", "-p", "tests.plugins.toolchain", "-p", "no:hypothesispytest")

    run = pytester.runpytest_subprocess(*plugins, "--strict-markers", "-n", "2")

    notes = [line.split() for line in (pytester.path / "notes").read_text().splitlines()]
    names = [name for name, _ in notes]

    run.assert_outcomes(passed=30, skipped=1)
    assert len({process for name, process in notes if name == "together"}) == 1
    assert len({process for name, process in notes if name == "sharing"}) == 1
    assert names.count("made") == 1
    assert [names[at + 1] for at, name in enumerate(names) if name == "begin"] == ["end", "end"]
    run.stdout.fnmatch_lines(["*left out for want of no-such-tool: 1 check*", "test_it.py::test_with_a_tool"])


@pytest.mark.needs("make")
@pytest.mark.parametrize(("arguments", "ran"), [("", "-n auto"), ("-k commit", "-k commit")])
def test_all_tests_run_in_several_processes_and_a_selection_in_one(arguments: str, ran: str) -> None:
    command = ["make", "-n", "test", f"ARGS={arguments}"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert told.splitlines()[-1] == f".venv/bin/python -m pytest {ran}"
