"""A server in the scenario's world (clients/scenario.md), started again whenever it ends: `make scenario-server`.

    python -m tests.clients.server [DIRECTORY]      default: build/scenario

Once it listens, DIRECTORY has `environment`, the variables that a client's `check` reads, as a shell takes them, and
`restart`, the command that SCENARIO_RESTART names.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

from agent_service.keys.base import Scope
from agent_service.keys.secret import generate, hash_text, public_id_of
from tests.e2e.processes import ServerProcess, server_process
from tests.fakes.ports import free_port

ROOT = Path(__file__).parents[2]
WORLD = ROOT / "clients" / "scenario"
EVERYTHING = {
    "scopes": [str(scope) for scope in Scope if scope is not Scope.ADMIN],
    "agents": ["*"],
    "tools": ["*"],
}
CALLERS: Mapping[str, Mapping[str, object]] = {
    "alice": {"tenant": "acme", **EVERYTHING},
    "bob": {"tenant": "globex", **EVERYTHING},
    "carol": {"tenant": "frugal", **EVERYTHING},
    "reader": {"tenant": "acme", **EVERYTHING, "scopes": ["tasks.read"]},
    "narrow": {"tenant": "acme", **EVERYTHING, "agents": ["assistant"], "tools": ["echo"]},
    "expired": {"tenant": "acme", **EVERYTHING, "not_after": "2026-01-01T00:00:00Z"},
}
STRANGER = "stranger"
# Of a key that a file or a secret store padded, and of one that no header can carry.
PADDED = " {alice}\t "
MANGLED = "schlüssel eines anderen"
RESTART = """#!/bin/sh
# Stops the server, as an operator does, and waits for the next one.
cd -- "$(dirname -- "$0")" || exit 1
old=$(cat pid)
kill -TERM "$old"
for _ in $(seq 250); do
    [ "$(cat pid)" = "$old" ] || exit 0
    sleep 0.1
done
echo "no server follows $old" >&2
exit 1
"""


@dataclass
class ScenarioServer:
    """One address, at which one server follows the other until it is stopped."""

    directory: Path
    port: int = field(default_factory=free_port)
    secrets: Mapping[str, str] = field(
        default_factory=lambda: {name: generate(public_id_of(name)) for name in (*CALLERS, STRANGER)}
    )
    _is_stopping: bool = False
    _running: ServerProcess | None = None

    async def run(self) -> None:
        """Serve until `stop`; a server that fails ends it too.

        Raises:
            RuntimeError: a server ended otherwise than by SIGTERM.
        """
        self._write_keys()
        while not self._is_stopping:
            async with server_process(self.directory, **self._settings()) as server:
                self._running = server
                self._announce(server.process.pid)
                code = await server.process.wait()
            if code != 0:
                raise RuntimeError(f"the server ended with {code}: {''.join(server.stderr[-20:])}")

    def stop(self) -> None:
        """End the server, and start none after it."""
        self._is_stopping = True
        if self._running is not None and self._running.process.returncode is None:
            self._running.process.terminate()

    def environment(self) -> dict[str, str]:
        """What `check` reads."""
        alike = {"padded": PADDED.format(**self.secrets), "mangled": MANGLED}
        keys = {f"SCENARIO_KEY_{name.upper()}": secret for name, secret in {**self.secrets, **alike}.items()}
        return {
            "AGENT_SERVICE_TARGET": f"127.0.0.1:{self.port}",
            "API_KEY": self.secrets["alice"],
            "SCENARIO_RESTART": shlex.quote(str(self.directory / "restart")),
            **keys,
        }

    def _settings(self) -> dict[str, str]:
        return {
            "AGENT_SERVICE_CONFIG_PATH": str(WORLD / "config.yaml"),
            "PYTHONPATH": os.pathsep.join((str(WORLD), str(ROOT))),
            "API_KEY": "",
            "API_KEYS_FILE": str(self.directory / "keys.yaml"),
            "API_PORT": str(self.port),
            "LLM_PROVIDER": "",
            "METRICS_ENABLED": "false",
            "AUTH_FAILURES_MAX": "0",
            "RATE_LIMIT_CALLS": "1000000",
            "RATE_LIMIT_TOKENS": "1000000000",
            "DRAIN_GRACE": "0.1",
            "REATTACH_GRACE": "2",
        }

    def _write_keys(self) -> None:
        keys = [{"id": name, "hash": hash_text(self.secrets[name]), **allowed} for name, allowed in CALLERS.items()]
        path = self.directory / "keys.yaml"
        path.write_text(json.dumps({"keys": keys}))  # which is YAML
        path.chmod(0o600)

    def _announce(self, pid: int) -> None:
        restart = self.directory / "restart"
        restart.write_text(RESTART)
        restart.chmod(0o755)
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in self.environment().items()]
        self._write("environment", "".join(lines))
        self._write("pid", str(pid))
        click.echo(f"the scenario's server listens at 127.0.0.1:{self.port}: . {self.directory}/environment")

    def _write(self, name: str, text: str) -> None:
        """At once: whoever reads it sees all of the old or all of the new."""
        fresh = self.directory / f"{name}.new"
        fresh.write_text(text)
        fresh.rename(self.directory / name)


async def serve(directory: Path) -> None:
    """Until SIGINT or SIGTERM."""
    server = ScenarioServer(directory)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop)
    await server.run()


def main() -> None:
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "scenario"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "pid").unlink(missing_ok=True)
    asyncio.run(serve(directory.resolve()))


if __name__ == "__main__":
    main()
