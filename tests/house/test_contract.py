"""What was released of the contract stays as it is."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def breaking(checkout: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "scripts/breaking"], cwd=checkout, capture_output=True, text=True, check=False)


@pytest.fixture
def change(tmp_path: Path) -> Callable[[str, str], subprocess.CompletedProcess[str]]:
    """What comes of another text in the service's proto."""

    def compared(old: str, new: str) -> subprocess.CompletedProcess[str]:
        for name in ("protos", "scripts"):
            shutil.copytree(ROOT / name, tmp_path / name)
        shutil.copy(ROOT / "buf.yaml", tmp_path)
        (tmp_path / ".venv").symlink_to(ROOT / ".venv")
        proto = tmp_path / "protos/agent_service/v1/agent_service.proto"
        text = proto.read_text("utf-8")
        assert old in text
        proto.write_text(text.replace(old, new), "utf-8")
        return breaking(tmp_path)

    return compared


def test_the_protos_keep_what_was_released() -> None:
    compared = breaking(ROOT)

    assert compared.returncode == 0, compared.stdout


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("  string task = 2;", "  bytes task = 2;", '"task" on message "RunTaskRequest" changed type'),
        ("  string session_id = 3;", "", '"session_id" on message "RunTaskRequest"'),
        ("rpc CancelTask", "rpc StopTask", '"CancelTask" on service "AgentService"'),
    ],
)
def test_what_breaks_it_is_named(
    change: Callable[[str, str], subprocess.CompletedProcess[str]], old: str, new: str, told: str
) -> None:
    compared = change(old, new)

    assert compared.returncode != 0
    assert told in compared.stdout


def test_it_may_grow(change: Callable[[str, str], subprocess.CompletedProcess[str]]) -> None:
    compared = change("  string task = 2;", "  string task = 2;\n  // New.\n  string mood = 99;")

    assert compared.returncode == 0, compared.stdout
