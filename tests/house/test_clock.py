"""Where the system's clock is read: in few files, each for a reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "agent_service"

# What returns the time that the system's clock shows. The arguments of calls and defaults count too.
READINGS = frozenset(
    {
        ("time", "time"),
        ("time", "time_ns"),
        ("datetime", "now"),
        ("datetime", "utcnow"),
        ("datetime", "today"),
        ("date", "today"),
    }
)
STAMPS = frozenset({"GetCurrentTime"})

ALLOWED = {
    "bootstrap/doctor/examination.py": "compares the machine's clock with certificates, keys and the store",
    "bootstrap/dump.py": "heads a dump for people",
    "cli/operator/dump.py": "shows people how long a server has been silent",
    "cli/operator/store.py": "an operator counts days from now",
    "cli/remote/usage.py": "a user counts hours and days from now",
    "clock.py": "follows the system's clock; what else needs the time of a task asks it",
    "engine/attempt/live_text.py": "stamps live events, which are not stored",
    "engine/limit_replay.py": "compares the times of stored events with the start of the process, once",
    "engine/tenant_budgets.py": "the default of an argument",
    "feed/live_reply.py": "stamps live events, which are not stored",
    "keys/ring.py": "keys expire at a date that an operator wrote; the default of an argument",
    "keys/tokens.py": "tokens expire at a time of another system; the default of an argument",
    "llm/openai/model.py": "providers say at which date to ask again; the default of an argument",
    "observe/log.py": "stamps log lines",
    "service/ids.py": "the beginning of a task's id, which only sorts",
    "service/watching/position.py": "stamps live events, which are not stored",
    "service/watching/watcher.py": "stamps live events, which are not stored",
    "tls/certificate_files.py": "certificates expire at a date; the default of an argument",
    "tools/builtin/current_time.py": "a model asks for the time",
}


def readings(path: Path) -> Iterator[int]:
    """The lines of a file that read the clock."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if node.attr in STAMPS or (owner, node.attr) in READINGS:
                yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (node.lineno for alias in node.names if alias.name in ("time", "time_ns"))


def test_the_clock_is_read_in_the_files_of_the_list_alone() -> None:
    reading = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "v1" not in path.relative_to(PACKAGE).parts and any(readings(path))
    }

    assert reading == ALLOWED.keys()


def test_each_way_of_reading_the_clock_is_found(tmp_path: Path) -> None:
    ways = [
        "import time\nnow = time.time()",
        "import time\ndef f(clock=time.time): ...",
        "from time import time",
        "from datetime import datetime\nnow = datetime.now()",
        "event.create_time.GetCurrentTime()",
    ]
    file = tmp_path / "it.py"
    for way in ways:
        file.write_text(way)
        assert list(readings(file)), way
    file.write_text("import time\nnow = time.monotonic()")
    assert list(readings(file)) == []
