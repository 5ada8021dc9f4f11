"""Which interpreter `make setup` builds .venv with, among those that a machine may have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "find-python"
INTERPRETER = getattr(sys, "_base_executable", sys.executable)

WORKS = f'exec "{INTERPRETER}" "$@"'
SHIM_WITHOUT_A_VERSION = "echo 'command not found' >&2; exit 127"
TOO_OLD = f"""exec "{INTERPRETER}" -I -c 'import sys; sys.version_info = (3, 10, 9); exec(sys.argv[3])' "$@" """
WITHOUT_VENV = f"""exec "{INTERPRETER}" -I -c 'import sys; sys.modules["ensurepip"] = None; exec(sys.argv[3])' "$@" """


class Machine:
    """A PATH that holds a shell and the interpreters put there, each of which notes that it was run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.environment = {"PATH": str(folder)}
        self.shell = shutil.which("sh") or "/bin/sh"

    def has(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(f'#!{self.shell}\necho "{name}" >>"{self.log}"\n{script}\n')
        path.chmod(0o755)

    def find(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.shell, str(SCRIPT), *arguments], env=self.environment, capture_output=True, text=True, check=False
        )

    @property
    def asked_last(self) -> str:
        return self.log.read_text().split()[-1]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_newest_of_those_that_are_tested_is_taken(machine: Machine) -> None:
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        machine.has(name, WORKS)

    found = machine.find()

    assert found.returncode == 0, found.stderr
    assert os.path.realpath(found.stdout.strip()) == os.path.realpath(INTERPRETER)
    assert machine.asked_last == "python3.13"


@pytest.mark.parametrize("broken", [SHIM_WITHOUT_A_VERSION, TOO_OLD, WITHOUT_VENV])
def test_one_that_cannot_be_used_is_passed_over(machine: Machine, broken: str) -> None:
    machine.has("python3.13", broken)
    machine.has("python3.12", WORKS)

    found = machine.find()

    assert found.returncode == 0, found.stderr
    assert machine.asked_last == "python3.12"


def test_python3_is_taken_where_it_is_new_enough(machine: Machine) -> None:
    machine.has("python3", WORKS)

    assert machine.find().returncode == 0


@pytest.mark.parametrize("only", [None, SHIM_WITHOUT_A_VERSION, TOO_OLD])
def test_a_machine_without_one_is_told_what_to_install_in_one_line(machine: Machine, only: str | None) -> None:
    if only:
        machine.has("python3", only)

    found = machine.find()

    assert found.returncode != 0
    assert found.stdout == ""
    assert len(found.stderr.splitlines()) == 1
    assert "install Python 3.11 or newer" in found.stderr


def test_a_machine_without_ensurepip_is_told_the_package_that_brings_it(machine: Machine) -> None:
    machine.has("python3", WITHOUT_VENV)

    found = machine.find()

    assert found.returncode != 0
    assert len(found.stderr.splitlines()) == 1
    assert f"install python3.{sys.version_info.minor}-venv" in found.stderr


def test_the_one_that_is_asked_for_is_judged_alone(machine: Machine) -> None:
    machine.has("python3.13", WORKS)
    machine.has("python3.9", TOO_OLD)

    found = machine.find("python3.9")

    assert found.returncode != 0
    assert "no python3.9 found" in found.stderr


def test_settings_of_the_shell_do_not_mislead_it(machine: Machine) -> None:
    machine.has("python3", WORKS)
    machine.environment |= {"PYTHONHOME": "/nonexistent", "PYTHONPATH": "/nonexistent"}

    assert machine.find().returncode == 0
