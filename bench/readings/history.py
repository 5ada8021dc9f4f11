"""The CPU of an event in a task of a thousand events beside tasks of ten, measured by `bench/long_task.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.machine import cores, pinned
from bench.results import Found, Reading
from bench.rounds import Pace, progress

ROOT = Path(__file__).parents[2]
RATIO = "CPU of an event, long / short"


@dataclass(frozen=True)
class History:
    """In process, so that nothing but events is measured."""

    name: str = "history"

    def only(self, wanted: Sequence[str]) -> History | None:
        """All or nothing."""
        return self if any(text in self.name for text in wanted) else None

    def measure(self, pace: Pace, found: Found) -> None:
        """As many rounds as of everything else."""
        progress(f"{self.name}: {pace.rounds} rounds")
        command = pinned(cores()[0], sys.executable, "-m", "bench.long_task", "--events", "--rounds", str(pace.rounds))
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"bench.long_task failed: {done.stderr.strip()}")
        costs = [json.loads(line) for line in done.stdout.splitlines()]
        ratios = [each["long"] / each["short"] for each in costs]
        found.readings.append(Reading(self.name, RATIO, "service", "", ratios))
