"""Libraries that run in process, in environments of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.contenders.base import Case, Work
from bench.contenders.worker import worker
from bench.peers import install
from bench.rounds import Group, Pace, measured

PROGRAM = """
import sys
sys.path.insert(0, {programs!r})
from worker import serve
async def piece():
    return {complaint!r}
serve({{"piece": piece}})
"""


def group(tmp_path: Path, complaint: str) -> Group:
    """A library whose every result is what that says, or right where it says nothing."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(programs=str(install.PROGRAMS), complaint=complaint))
    return Group(
        "libraries", [Case("a piece", worker("a library", sys.executable, str(program)), lambda _: Work("piece"))]
    )


def test_a_library_is_measured_in_process(tmp_path: Path) -> None:
    (row,) = measured(group(tmp_path, ""), Pace(rounds=2, seconds=0.05))

    assert [sample.calls >= 64 for sample in row.samples] == [True, True]
    assert row.samples[0].rate > 0


def test_a_library_whose_results_are_wrong_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^a piece, a library: 128 of 128 results are wrong, the first: 41$"):
        list(measured(group(tmp_path, "41"), Pace(rounds=2, seconds=0.05)))


def test_a_peer_of_other_versions_counts_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "HOME", tmp_path)
    installed = tmp_path / "a2a" / "requirements.txt"
    installed.parent.mkdir()

    missing = install.python_of("a2a")
    installed.write_text("a2a-sdk==0.1\n")
    other = install.python_of("a2a")
    installed.write_text((Path(install.__file__).parent / "a2a.txt").read_text())

    assert (missing, other) == (None, None)
    assert install.python_of("a2a") == str(tmp_path / "a2a" / "bin" / "python")
