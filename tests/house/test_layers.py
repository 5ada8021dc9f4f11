"""Who may import whom: the contracts in pyproject.toml, and that they see what they are there to see."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT_IMPORTS = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", LINT_IMPORTS], cwd=folder, capture_output=True, text=True, check=False)


def test_the_code_keeps_to_its_layers() -> None:
    checked = lint_imports(ROOT)

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("engine/it.py", "from agent_service.server import app", "A layer imports from those below"),
        ("store/it.py", "from agent_service.limits import base", "A layer imports from those below"),
        ("errors.py", "from agent_service.tools import base", "A layer imports from those below"),
        ("text/it.py", "from agent_service.errors import ConfigError", "A layer imports from those below"),
        ("client/it.py", "from agent_service.text import paths", "The client, a package of its own"),
        ("client/it.py", "from agent_service.store import base", "A layer imports from those below"),
        ("engine/it.py", "from agent_service.journal.append_rule import admit", "Appends are admitted"),
        ("server/it.py", "from agent_service.config import settings", "Settings are read where"),
        ("cli/it.py", "from agent_service.store.sqlite.adapter import SqliteStore", "Adapters are named"),
        ("service/it.py", "from agent_service.llm.openai.model import OpenAIModel", "Adapters are named"),
        ("service/it.py", "import agent_service.client", "The client is used by"),
        ("service/it.py", "import grpc", "gRPC is known"),
        ("cli/it.py", "from grpc_health.v1 import health_pb2", "gRPC is known"),
        ("llm/it.py", "def lazily():\n    import openai", "The openai package is known"),
        ("limits/it.py", "import sqlite3", "SQLite is known"),
        ("engine/it.py", "from opentelemetry import trace", "OpenTelemetry is known"),
        ("newcomer/__init__.py", "", "A layer imports from those below"),
    ],
)
def test_an_import_across_the_layers_is_found(tmp_path: Path, module: str, line: str, contract: str) -> None:
    shutil.copytree(ROOT / "agent_service", tmp_path / "agent_service", ignore=shutil.ignore_patterns("__pycache__"))
    # Else the checkout's modules, which are installed, would be part of the same namespace package.
    (tmp_path / "agent_service" / "__init__.py").touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    offender = tmp_path / "agent_service" / module
    offender.parent.mkdir(exist_ok=True)
    with offender.open("a", encoding="utf-8") as text:
        text.write(f"\n{line}\n")

    checked = lint_imports(tmp_path)

    assert checked.returncode == 1, checked.stdout + checked.stderr
    broken = [found for found in checked.stdout.splitlines() if found.endswith("BROKEN")]
    assert [found.startswith(contract) for found in broken] == [True], checked.stdout
