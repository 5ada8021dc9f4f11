"""What one tenant does to itself, it does not do to others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from agent_service.tools.decorator import tool
from agent_service.v1.error_reason_pb2 import ERROR_REASON_TOOL_TIMEOUT
from tests.harness import Parts, started

# Twice as many as run at once.
STUCK = 8


@pytest.fixture
def never() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


async def test_sync_tools_of_others_run_while_one_tenant_has_stuck_ones(never: threading.Event) -> None:
    @tool(side_effect="read_only", timeout_s=0.1)
    def fetch() -> str:
        """A library call without a timeout, to a host that does not answer."""
        never.wait()
        return ""

    @tool(side_effect="read_only")
    def hello() -> str:
        """Greets."""
        return "hello"

    async with started(Parts(tools=[fetch, hello], tool_threads_max=4)) as running:
        refused = False
        while not refused:
            stuck = await asyncio.gather(*(running.client.invoke_tool("fetch", {}) for _ in range(STUCK)))
            assert {answer.error.reason for answer in stuck} == {ERROR_REASON_TOOL_TIMEOUT}
            refused = any("too many earlier calls" in answer.error.message for answer in stuck)
            answer = await running.other_tenant.invoke_tool("hello", {}, timeout_s=20)
            assert answer.output.string_value == "hello"
        assert await running.server.readiness.check()
