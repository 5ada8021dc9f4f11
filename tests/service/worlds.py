"""What the tests of tasks share: models and tools that wait for their test, and calls without a client's help."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from tests.harness import KEY, Running, reply

PATIENCE_S = 20.0


class Gate:
    """A model's step that answers once it is opened. `waiting` counts the requests that it holds."""

    def __init__(self, text: str = "hello") -> None:
        self.asked = 0
        self._text = text
        self._open = asyncio.Event()
        self._moved = asyncio.Condition()

    async def step(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        async with self._moved:
            self.asked += 1
            self._moved.notify_all()
        await self._open.wait()
        observer.text(self._text)
        return reply(self._text)

    async def holds(self, requests: int = 1) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(PATIENCE_S), self._moved:
            await self._moved.wait_for(lambda: self.asked >= requests)

    def open(self) -> None:
        self._open.set()


@asynccontextmanager
async def stub(running: Running, key: str = KEY) -> AsyncIterator[tuple[Any, Any]]:
    """The generated stub, without our client's retries, and the metadata of a call."""
    async with running.channel() as channel:
        yield AgentServiceStub(channel), (("x-api-key", key),)


def request(task: str = "go", **fields: Any) -> pb.RunTaskRequest:
    return pb.RunTaskRequest(task=task, **fields)


async def until(condition: Any) -> None:
    """Wait until a condition of the test's own process holds, turn by turn of the loop."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - there is no event: it looks into the server
            await asyncio.sleep(0)
