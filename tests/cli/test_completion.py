"""Completion in the shell, as the manual sets it up: by the installed command, not by `python -m`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.processes import environment

MANUAL = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text("utf-8")
COMMAND = Path(sys.executable).with_name("agent-service")


def asked(instruction: str, **more: str) -> str:
    """What the command prints when a shell asks it for completion."""
    env = environment(_AGENT_SERVICE_COMPLETE=instruction, **more)
    return subprocess.run([COMMAND], env=env, capture_output=True, text=True, check=True).stdout


def completed(line: str) -> list[str]:
    """What the last word of a line may become."""
    words = line.split(" ")
    out = asked("bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    return [found.partition(",")[2] for found in out.splitlines() if found]


@pytest.mark.parametrize(
    ("shell", "registers"),
    [
        ("bash", "complete -o nosort -F _agent_service_completion agent-service"),
        ("zsh", "compdef _agent_service_completion agent-service"),
        ("fish", "complete --no-files --command agent-service"),
    ],
)
def test_the_line_in_the_manual_prints_a_script_for_the_shell(shell: str, registers: str) -> None:
    assert f"_AGENT_SERVICE_COMPLETE={shell}_source agent-service" in MANUAL
    assert registers in asked(f"{shell}_source")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("agent-service to", ["tools"]),
        ("agent-service tasks re", ["resume"]),
        ("agent-service ", ["init", "serve", "run", "tasks", "tools", "usage", "health", "config", "keys", "doctor"]),
        ("agent-service tools ", ["list", "invoke"]),
        ("agent-service serve --po", ["--port"]),
        ("agent-service config re", ["reference"]),
        ("agent-service keys new --scope tasks.r", ["tasks.run", "tasks.read"]),
        ("agent-service nothing-like-it", []),
    ],
)
def test_a_word_is_completed_to_what_the_command_line_takes(line: str, found: list[str]) -> None:
    assert sorted(completed(line)) == sorted(found)
