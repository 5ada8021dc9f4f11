"""The server as its users run it: a process of its own, started by the command line."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.server_process import KEY, agent_service, environment, event_of, server_environment

__all__ = ["KEY", "ServerProcess", "agent_service", "command", "environment", "server_process"]


@dataclass
class ServerProcess:
    """A started server. `log` grows as it writes."""

    process: asyncio.subprocess.Process
    directory: Path
    port: int = 0
    health_port: int = 0
    metrics_port: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)
    _grown: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def environment_of_ports(self) -> dict[str, str]:
        """The settings with which another process would want its ports."""
        return {"API_PORT": str(self.port), "METRICS_PORT": str(self.metrics_port)}

    async def metrics(self, accept: str = "*/*") -> str:
        """What Prometheus would read."""

        def read() -> str:
            url = f"http://127.0.0.1:{self.metrics_port}/metrics"
            with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept})) as response:
                text: str = response.read().decode()
            return text

        return await asyncio.to_thread(read)

    async def read_log(self) -> None:
        """Read to the end, so that the server never waits for a reader."""
        assert self.process.stderr is not None
        while line := (await self.process.stderr.readline()).decode():
            async with self._grown:
                self.stderr.append(line)
                if event := event_of(line):
                    self.log.append(event)
                self._grown.notify_all()
        async with self._grown:
            self.stderr.append("(end of the log)")
            self._grown.notify_all()

    async def told(self, text: str) -> None:
        """Wait for a line with that text, of the log or not."""
        async with self._grown:
            await self._grown.wait_for(lambda: any(text in line for line in self.stderr))

    async def logged(self, event: str, times: int = 1) -> dict[str, Any]:
        """The first line of that event, or the one that makes so many, waiting for it."""
        async with self._grown:
            while True:
                lines = [line for line in self.log if line["event"] == event]
                if len(lines) >= times:
                    return lines[times - 1]
                if self.stderr and self.stderr[-1] == "(end of the log)":
                    raise AssertionError(f"the server ended without {event!r}: {''.join(self.stderr)}")
                await self._grown.wait()


@asynccontextmanager
async def server_process(directory: Path, *command: str, **settings: str) -> AsyncIterator[ServerProcess]:
    """A server in `directory`, with the scripted model and a SQLite file; killed at the end if it still runs.

    `command` starts it in another way than by this interpreter.
    """
    defaults = {"DATABASE_URL": f"sqlite:///{directory / 'test.db'}"}
    process = await asyncio.create_subprocess_exec(
        *(command or agent_service("serve")),
        cwd=directory,
        env=server_environment(directory, **(defaults | settings)),
        stderr=asyncio.subprocess.PIPE,
        limit=1024 * 1024,
    )
    server = ServerProcess(process, directory)
    reading = asyncio.create_task(server.read_log())
    try:
        async with asyncio.timeout(60):
            line = await server.logged("started")
        server.port, server.metrics_port = line["port"], line.get("metrics_port", 0)
        server.health_port = line.get("health_port", 0)
        yield server
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


async def command(*arguments: str, cwd: Path, env: Mapping[str, str]) -> tuple[int, str, str]:
    """Run the command line to its end: exit code, stdout, stderr."""
    async with child(*agent_service(*arguments), cwd=cwd, env=env) as process:
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def child(*command: str, cwd: Path, env: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process without input, its output in pipes; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=dict(env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
