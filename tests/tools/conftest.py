from collections.abc import AsyncIterator, Iterator

import pytest

from agent_service.tools.base import ToolContext
from agent_service.tools.runner import ToolRunner
from tests.tools.calls import Gate


@pytest.fixture
def context() -> ToolContext:
    return ToolContext(tenant="acme", task_id="task-1", tool_call_id="call-1")


@pytest.fixture
async def runner() -> AsyncIterator[ToolRunner]:
    async with ToolRunner(threads_max=4) as runner:
        yield runner


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()
