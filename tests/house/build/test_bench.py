"""The measurements run; what they say is for those who run them on a quiet machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_cost_of_long_tasks_is_measured() -> None:
    command = [sys.executable, "bench/long_task.py", "--rounds", "1", "--few", "100", "--many", "110"]
    measured = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert re.search(r"^ratio long / short: \d+\.\d\d ", measured, flags=re.MULTILINE), measured
    assert re.search(r"^WatchTask, end of 1005 events( +\d+\.\d\dms){2}$", measured, flags=re.MULTILINE), measured


def test_the_cost_of_a_streams_chunks_is_measured() -> None:
    command = [sys.executable, "bench/stream_chunk.py", "--rounds", "3", "--chunks", "2000"]
    measured = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    found = re.search(r"^ratio Responses / Chat Completions: (\d+\.\d\d)$", measured, flags=re.MULTILINE)
    assert found, measured
    assert float(found[1]) < 2, measured  # both are read in the same few steps


def test_the_breadth_of_a_task_is_measured() -> None:
    command = [sys.executable, "bench/breadth.py", "--rounds", "1"]
    measured = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout

    assert re.search(r"^plain RunTask: \d+ entries, ", measured, flags=re.MULTILINE), measured
    assert re.search(r"^a delta, one watcher: \d+(\.\d)? frames, ", measured, flags=re.MULTILINE), measured
