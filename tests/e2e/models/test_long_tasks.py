"""Tasks and sessions that outgrow their model's window."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from agent_service.engine.runtime import ModelRuntime
from agent_service.engine.task.context_window import CUT, LEFT_OUT, Window
from agent_service.llm.base import Message, ModelObserver, ModelReply, ModelRequest, Role
from agent_service.tools.decorator import tool
from agent_service.v1.task_event_pb2 import TaskLimits
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, Step, calls, reply, says, started

CONTEXT = 1500
REPLY = 100  # as the harness has it
TURNS = 30


@tool()
def read(page: int) -> str:
    """Reads a page."""
    return f"page {page}: " + "it was a dark and stormy night " * 20


@tool()
def read_all() -> str:
    """Reads all of it."""
    return "it was a dark and stormy night " * 2000


def reads(pages: int) -> list[Step]:
    return [calls(("read", {"page": page})) for page in range(pages)]


def parts(model: FakeModel) -> Parts:
    limits = TaskLimits(turns=100, tool_calls=100, parallel_tools=4)
    return Parts(model=model, tools=[read, read_all], limits=limits, context_tokens=CONTEXT, instructions="Be brief.")


def tokens(messages: Sequence[Message]) -> int:
    return Window(ModelRuntime("fake", FakeModel(), REPLY, CONTEXT)).tokens(messages)


async def test_a_task_of_many_turns_is_sent_within_the_window_to_its_end() -> None:
    model = FakeModel(*reads(TURNS), says("done"))
    async with started(parts(model)) as running:
        events = [event async for event in running.client.stream("Read it.")]
    assert events[-1].completed.output == "done"
    reserved = [event.model_started.tokens_reserved for event in events if event.HasField("model_started")]
    assert len(reserved) == TURNS + 1
    # What the limiter is told is what the provider is sent.
    assert max(reserved) <= CONTEXT
    assert all(tokens(request.messages) + REPLY <= CONTEXT for request in model.requests)
    last = model.requests[-1].messages
    assert [last[0].text, last[1].text] == ["Be brief.", "Read it." + LEFT_OUT]
    assert [message.role for message in last[2:4]] == [Role.ASSISTANT, Role.TOOL]
    assert last[-1].text.startswith(f"page {TURNS - 1}: ")


async def test_a_result_that_is_longer_than_the_window_is_cut() -> None:
    model = FakeModel(calls(("read_all", {})), says("done"))
    async with started(parts(model)) as running:
        task = await running.client.run("Read it.")
        kept = [event.tool_finished for event in await running.store.read(task.id) if event.HasField("tool_finished")]
    assert task.state == TASK_STATE_COMPLETED
    assert model.requests[1].messages[-1].text.endswith(CUT)
    assert tokens(model.requests[1].messages) + REPLY <= CONTEXT
    # The journal has it whole.
    assert len(kept[0].output_json) > 60_000


async def test_after_a_crash_the_same_is_sent() -> None:
    reached = asyncio.Event()

    async def hang(_: ModelRequest, __: ModelObserver) -> ModelReply:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    before, after = FakeModel(*reads(12), hang), FakeModel(says("done"))
    store = FakeStore()
    async with started(replace(parts(before), store=store)) as running:
        await running.client.submit("Read it.")
        async with asyncio.timeout(30):
            await reached.wait()
        left = store.after_a_crash()
    async with started(replace(parts(after), store=left)) as running:
        async with asyncio.timeout(30):
            await running.is_quiet()
    assert LEFT_OUT in after.requests[0].messages[1].text
    assert after.requests[0].messages == before.requests[-1].messages


async def test_a_session_gives_way_to_the_task_at_hand() -> None:
    numbers = count()

    async def answer(_: ModelRequest, __: ModelObserver) -> ModelReply:
        return reply(f"answer {next(numbers)} " + "and so on and so forth " * 40)

    model = FakeModel(answer)
    async with started(parts(model)) as running:
        for number in range(8):
            await running.client.run(f"question {number}", session_id="s")
    last = model.requests[-1].messages
    assert tokens(last) + REPLY <= CONTEXT
    texts = [message.text.split(" and")[0] for message in last]
    assert texts == ["Be brief.", *(f"{what} {n}" for n in (4, 5, 6) for what in ("question", "answer")), "question 7"]
