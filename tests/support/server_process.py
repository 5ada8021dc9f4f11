"""The server as its users run it: a process of its own, with a key, the scripted model and free ports.

Tests wait for what it logs (`tests/e2e/processes.py`); demo, benches and the check of a release need its port alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEY = "a-key-for-tests-of-more-than-32-characters"
START_S = 60
STOP_S = 30
LOOK_S = 0.05


def agent_service(*arguments: str) -> Sequence[str]:
    """The command line."""
    return (sys.executable, "-m", "agent_service", *arguments)


def environment(**settings: str) -> dict[str, str]:
    """What a process sees: none of the settings that this shell may carry."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | settings


def transport_environ() -> dict[str, str]:
    """The transport that a run of the tests is for, by the environment variable TEST_TRANSPORT; empty: the default."""
    name = os.environ.get("TEST_TRANSPORT")
    return {"API_TRANSPORT": name} if name else {}


def server_environment(directory: Path, **settings: str) -> dict[str, str]:
    """What a server in `directory` sees; `settings` go before those that it has otherwise."""
    defaults = {
        "API_KEY": KEY,
        "API_HOST": "127.0.0.1",
        "API_PORT": "0",
        "METRICS_PORT": "0",
        "LLM_PROVIDER": "scripted",
        "LOG_FORMAT": "json",
        "DATABASE_URL": f"sqlite:///{directory / 'server.db'}",
    }
    return environment(**(defaults | transport_environ() | settings))


def event_of(line: str) -> dict[str, Any] | None:
    """The event that a line of the log has; None for other output."""
    event: dict[str, Any] | None = json.loads(line) if line.startswith("{") else None
    return event


@dataclass
class RunningServer:
    """A server that listens. Its log goes to a file, so that it never waits for a reader."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        """End it by SIGTERM.

        Raises:
            RuntimeError: it did not end with 0.
        """
        self.process.terminate()
        code = self.process.wait(STOP_S)
        if code != 0:
            raise RuntimeError(f"the server exited with {code}")


@contextmanager
def running_server(directory: Path, *command: str, **settings: str) -> Iterator[RunningServer]:
    """A server in `directory` that has started; stopped at the end. `command` starts it in another way than by this
    interpreter. What goes wrong in between has the log as a note.

    Raises:
        RuntimeError: it did not start in START_S, or did not stop with 0.
    """
    log = directory / "server.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command or agent_service("serve"),
            cwd=directory,  # no .env and no config.yaml of the checkout
            env=server_environment(directory, **settings),
            stderr=sink,
        )
    try:
        server = RunningServer(process, _port(process, log), log)
        yield server
        if process.poll() is None:
            server.stop()
    except BaseException as error:
        error.add_note(log.read_text("utf-8"))
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    ends = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < ends:
        for line in log.read_text("utf-8").splitlines(keepends=True):
            if line.endswith("\n") and (event := event_of(line)) and event["event"] == "started":
                return int(event["port"])
        time.sleep(LOOK_S)
    raise RuntimeError("the server did not start")
