"""`make demo`: from nothing to an answered task, on this machine alone.

Starts a real server as a process of its own (free ports, temporary database and key, the scripted model), sends it a
task over gRPC, invokes a tool, asks for its health, and stops it. Exits 0 if all of that went as it should.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import tempfile
from contextlib import aclosing
from pathlib import Path

from agent_service.cli.remote.view import LineView, LiveView, View
from agent_service.client import AsyncClient
from agent_service.v1.task_event_pb2 import TaskEvent
from tests.support.server_process import running_server

TASK = "What is 17.5% of 2340?"
EXPECTED = "409.5"


def say(text: str) -> None:
    """A heading, or a command as a user would type it."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


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


async def calls(target: str, key: str) -> None:
    """A task, a tool and the health, each as a command would ask for it."""
    async with AsyncClient(target, api_key=key) as client:
        await run_task(client)
        say("""$ agent-service tools invoke calculator '{"expression": "2340 * 0.175"}'""")
        response = await client.invoke_tool("calculator", {"expression": "2340 * 0.175"})
        print(response.output.string_value or response.output.number_value)
        say("$ agent-service health")
        health = await client.health()
        print(health)
        if health != "SERVING" or response.HasField("error"):
            raise RuntimeError("the tool or the health check failed")


def demo() -> None:
    """All of it."""
    key = f"demo-{secrets.token_urlsafe(32)}"
    with tempfile.TemporaryDirectory(prefix="agent-service-demo-") as directory:
        say("$ agent-service serve --port 0 &")
        settings = {"API_KEY": key, "DATABASE_URL": f"sqlite:///{directory}/demo.db"}
        with running_server(Path(directory), **settings) as server:
            print(f"listening on {server.target}, journal in {directory}/demo.db")
            asyncio.run(calls(server.target, key))
    say("The server has stopped. Now start your own: make serve")


if __name__ == "__main__":
    demo()
