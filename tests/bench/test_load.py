"""The load generator by its own means."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

LOAD = Path(__file__).parents[2] / "bench" / "load"

pytestmark = pytest.mark.needs("go")


def output(*command: str) -> str:
    """Run a command that must succeed, and return its output."""
    done = subprocess.run(command, cwd=LOAD, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_generator_is_formatted_and_vetted() -> None:
    assert output("gofmt", "-l", ".") == ""
    output("go", "vet", "./...")
