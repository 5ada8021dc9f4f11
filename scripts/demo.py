"""`make demo`: from nothing to an answered task, on this machine alone.

Starts a real server as a process of its own (free ports, temporary database and key, the scripted model), sends it a
task over gRPC, invokes a tool, asks for its health, and stops it. Exits 0 if all of that went as it should.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from agent_service.cli.view import LineView, LiveView, View
from agent_service.client import AsyncClient
from agent_service.v1.task_event_pb2 import TaskEvent

TASK = "What is 17.5% of 2340?"
EXPECTED = "409.5"
START_S = 30
STOP_S = 15


def say(text: str) -> None:
    """A heading, or a command as a user would type it."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def environment(directory: Path, key: str) -> dict[str, str]:
    """What the server sees: none of the settings that this shell may carry."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | {
        "API_KEY": key,
        "API_HOST": "127.0.0.1",
        "API_PORT": "0",
        "DATABASE_URL": f"sqlite:///{directory / 'demo.db'}",
        "LLM_PROVIDER": "scripted",
        "LOG_FORMAT": "json",
        "METRICS_PORT": "0",
    }


@asynccontextmanager
async def server(directory: Path, key: str) -> AsyncGenerator[int]:
    """A running server's port; stopped by SIGTERM, also when something failed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent_service",
        "serve",
        cwd=directory,  # no .env and no config.yaml of the checkout
        env=environment(directory, key),
        stderr=asyncio.subprocess.PIPE,
    )
    log: list[str] = []
    try:
        async with asyncio.timeout(START_S):
            port = await started(process, log)
        reading = asyncio.create_task(keep_reading(process, log))
        yield port
        process.terminate()
        async with asyncio.timeout(STOP_S):
            code = await process.wait()
            await reading
        if code != 0:
            raise RuntimeError(f"the server exited with {code}")
    except BaseException:
        print("".join(log), file=sys.stderr)
        raise
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def started(process: asyncio.subprocess.Process, log: list[str]) -> int:
    """The port, once the server's log says that it listens."""
    assert process.stderr is not None
    while line := (await process.stderr.readline()).decode():
        log.append(line)
        if line.startswith("{") and json.loads(line)["event"] == "started":
            port: int = json.loads(line)["port"]
            return port
    raise RuntimeError("the server did not start")


async def keep_reading(process: asyncio.subprocess.Process, log: list[str]) -> None:
    """So that the server never waits for a reader of its log."""
    assert process.stderr is not None
    while line := (await process.stderr.readline()).decode():
        log.append(line)


async def run_task(client: AsyncClient) -> None:
    """The task, live; it must be answered by what the calculator really returned."""
    say(f'$ agent-service run "{TASK}"')
    view: View = LiveView() if sys.stdout.isatty() else LineView()
    results: list[str] = []
    last = TaskEvent()
    async with aclosing(client.stream(TASK)) as events:
        async for event in events:
            view.show(event)
            if event.HasField("tool_finished"):
                results.append(event.tool_finished.output_json.strip('"'))
            last = event
    if EXPECTED not in last.completed.output or EXPECTED not in results:
        raise RuntimeError(f"expected {EXPECTED} out of the calculator; its results were {results}")


async def demo() -> None:
    """All of it."""
    key = f"demo-{secrets.token_urlsafe(32)}"
    with tempfile.TemporaryDirectory(prefix="agent-service-demo-") as directory:
        say("$ agent-service serve --port 0 &")
        async with server(Path(directory), key) as port, AsyncClient(f"127.0.0.1:{port}", api_key=key) as client:
            print(f"listening on 127.0.0.1:{port}, journal in {directory}/demo.db")
            await run_task(client)
            say("""$ agent-service tools invoke calculator '{"expression": "2340 * 0.175"}'""")
            response = await client.invoke_tool("calculator", {"expression": "2340 * 0.175"})
            print(response.output.string_value or response.output.number_value)
            say("$ agent-service health")
            health = await client.health()
            print(health)
            if health != "SERVING" or response.HasField("error"):
                raise RuntimeError("the tool or the health check failed")
    say("The server has stopped. Now start your own: make serve")


if __name__ == "__main__":
    asyncio.run(demo())
