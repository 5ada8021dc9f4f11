"""The Go client by its own means: its tests and its tools. What it promises says the scenario."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

GO = Path(__file__).parents[2] / "clients" / "go"
MODULES = (GO, GO / "internal")

# The first build compiles gRPC, on a machine that may be busy.
pytestmark = [pytest.mark.needs("go"), pytest.mark.timeout(600)]


def output(*command: str, directory: Path = GO) -> str:
    """What a command prints, which succeeds."""
    done = subprocess.run(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_go_client_keeps_its_promises_to_a_service_that_breaks_off_and_refuses() -> None:
    output("go", "test", "./...")


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_go_code_is_formatted_and_vetted(module: Path) -> None:
    assert output("gofmt", "-l", ".", directory=module) == ""
    output("go", "vet", "./...", directory=module)
