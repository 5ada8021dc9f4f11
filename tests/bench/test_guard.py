"""The counts of a task are held; they vary little, however busy the machine is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def guard(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.guard", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=170)


def test_a_task_costs_no_more_than_is_held() -> None:
    done = guard()

    assert done.returncode == 0, done.stderr
    assert "plain RunTask: " in done.stdout


def test_a_count_that_has_grown_fails(tmp_path: Path) -> None:
    held = {"python": PYTHON, "figures": {"plain RunTask": {"commits": {"count": 1, "tolerance": 0.5}}}}
    (tmp_path / "held.json").write_text(json.dumps(held))

    done = guard("--rounds", "5", "--file", tmp_path / "held.json")

    assert done.returncode == 1
    assert "grown: plain RunTask: 2 commits, at most 1.5 (1 before)" in done.stderr


def test_the_counts_of_now_are_written_with_the_tolerances_of_before(tmp_path: Path) -> None:
    held = {"python": "3.0", "figures": {"plain RunTask": {"commits": {"count": 0, "tolerance": 0.5}}}}
    (tmp_path / "held.json").write_text(json.dumps(held))

    done = guard("--rounds", "5", "--file", tmp_path / "held.json", "--update")

    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "held.json").read_text())
    assert written == {"python": PYTHON, "figures": {"plain RunTask": {"commits": {"count": 2, "tolerance": 0.5}}}}
