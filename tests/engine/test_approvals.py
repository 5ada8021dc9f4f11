"""A call that needs somebody's word waits for it, in nobody's memory, and goes on as it was answered."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import replace

import pytest

from agent_service.agents.base import Action, AgentState, Complete, RequireInput
from agent_service.client import AsyncClient, approve, deny, reply
from agent_service.engine.journal_reading import read_folded
from agent_service.engine.task.inputs import received
from agent_service.engine.task.state import FoldedTask
from agent_service.llm.base import Role
from agent_service.tools.base import Tool
from agent_service.tools.decorator import tool
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import (
    INPUT_KIND_APPROVAL,
    INPUT_KIND_QUESTION,
    TASK_STATE_COMPLETED,
    TASK_STATE_INPUT_REQUIRED,
    TASK_STATE_WORKING,
    Task,
)
from tests.fakes.store import FakeStore
from tests.harness import KEY, FakeModel, Parts, Running, calls, says, started

PAID: list[int] = []


@tool(side_effect="side_effecting")
async def pay(amount: int) -> str:
    """Pays."""
    PAID.append(amount)
    return f"paid {amount}"


@tool(side_effect="read_only")
async def look() -> str:
    """Looks."""
    return "seen"


@pytest.fixture(autouse=True)
def nothing_paid() -> None:
    PAID.clear()


def parts(*tool_calls: tuple[str, dict[str, int]], tools: Sequence[Tool] = (pay, look)) -> Parts:
    """An agent that makes these calls in one turn, of which those of `pay` wait for approval."""
    model = FakeModel(calls(*tool_calls), says("done"))
    return Parts(model=model, tools=tools, needs_approval=["pay"])


async def finished(running: Running, task_id: str) -> Task:
    """The task once it has ended, or waits again."""
    async with asyncio.timeout(30):
        async for _ in running.client.watch(task_id):
            pass
    return await running.client.get_task(task_id)


async def events_of(running: Running, task_id: str, arm: str) -> list[TaskEvent]:
    return [event for event in await running.store.read(task_id) if event.WhichOneof("event") == arm]


async def test_a_call_that_needs_approval_runs_once_it_is_approved() -> None:
    async with started(parts(("pay", {"amount": 5}))) as running:
        task = await running.client.run("pay 5")
        assert task.state == TASK_STATE_INPUT_REQUIRED
        (asked,) = task.pending_inputs
        assert (asked.input_id, asked.kind) == ("input_1", INPUT_KIND_APPROVAL)
        assert (asked.tool_call.name, asked.tool_call.arguments_json) == ("pay", '{"amount":5}')
        assert asked.expire_time.ToSeconds() - task.update_time.ToSeconds() in (3599, 3600)
        assert PAID == []

        answered = await running.client.resume(task.id, "input_1", approve())
        assert (answered.state, list(answered.pending_inputs)) == (TASK_STATE_WORKING, [])
        task = await finished(running, task.id)

        assert (task.state, task.output, PAID) == (TASK_STATE_COMPLETED, "done", [5])
        assert await running.journal(task.id) == [
            "submitted",
            "attempt_started",
            "model_started",
            "model_replied",
            "input_required",
            "input_received",
            "attempt_started",
            "tool_started",
            "tool_finished",
            "model_started",
            "model_replied",
            "completed",
        ]


async def test_who_answered_and_what_is_in_the_journal() -> None:
    async with started(parts(("pay", {"amount": 5}))) as running:
        task = await running.client.run("pay 5")
        await running.client.resume(task.id, "input_1", deny("not on a Sunday"))
        (event,) = await events_of(running, task.id, "input_received")
        received = event.input_received
        assert (received.input_id, received.answered_by) == ("input_1", "acme")
        assert (received.answer, received.resumes) == (deny("not on a Sunday"), True)


@pytest.mark.parametrize(("comment", "told"), [("not on a Sunday", "denied: not on a Sunday"), ("", "denied")])
async def test_a_call_that_is_denied_never_runs_and_the_model_reads_why(comment: str, told: str) -> None:
    asked = parts(("pay", {"amount": 5}))
    async with started(asked) as running:
        task = await running.client.run("pay 5")
        await running.client.resume(task.id, "input_1", deny(comment))
        task = await finished(running, task.id)
        arms = await running.journal(task.id)

    assert (task.state, PAID, task.usage.tool_calls) == (TASK_STATE_COMPLETED, [], 0)
    assert "tool_started" not in arms
    assert isinstance(asked.model, FakeModel)
    assert asked.model.requests[-1].messages[-1].text == (f'{{"error":{{"reason":"TOOL_DENIED","message":"{told}"}}}}')


async def test_a_waiting_task_holds_no_slot_and_no_memory() -> None:
    async with started(replace(parts(("pay", {"amount": 5})), running_max=1)) as running:
        task = await running.client.run("pay 5")
        await running.is_quiet()
        assert not running.runner.running
        gc.collect()
        held = [one for one in gc.get_objects() if isinstance(one, FoldedTask) and one.task.id == task.id]
        assert held == []

        other = await running.client.run("anything else")
        assert other.state == TASK_STATE_COMPLETED
        await running.client.resume(task.id, "input_1", approve())
        assert (await finished(running, task.id)).state == TASK_STATE_COMPLETED


async def test_a_waiting_task_survives_a_restart_and_is_not_begun_until_it_is_answered() -> None:
    store, asked = FakeStore(), parts(("pay", {"amount": 5}))
    async with started(replace(asked, store=store)) as running:
        task = await running.client.run("pay 5")
    left = store.after_a_crash()

    async with started(replace(asked, store=left)) as running:
        await running.is_quiet()
        assert await running.client.get_task(task.id) == task
        await running.client.resume(task.id, "input_1", approve())
        task = await finished(running, task.id)

    assert (task.state, task.attempt, PAID) == (TASK_STATE_COMPLETED, 2, [5])


async def test_an_answer_that_was_accepted_is_acted_on_after_a_crash() -> None:
    store, asked = FakeStore(), parts(("pay", {"amount": 5}))
    async with started(replace(asked, store=store)) as running:
        task = await running.client.run("pay 5")
    folded = await read_folded(store, task.id)
    answer = received(folded, "input_1", approve(), "acme")
    answer.task_id, answer.attempt = task.id, 1
    await store.append([answer], attempt=None, after=folded.task.last_sequence)

    async with started(replace(asked, store=store.after_a_crash())) as running:
        task = await finished(running, task.id)

    assert (task.state, PAID) == (TASK_STATE_COMPLETED, [5])


async def test_inputs_of_one_turn_are_answered_one_by_one_and_the_last_answer_lets_it_go_on() -> None:
    asked = parts(("pay", {"amount": 1}), ("pay", {"amount": 2}), ("pay", {"amount": 3}))
    async with started(asked) as running:
        task = await running.client.run("pay all")
        assert [one.input_id for one in task.pending_inputs] == ["input_1", "input_2", "input_3"]
        assert [one.tool_call.id for one in task.pending_inputs] == ["c0", "c1", "c2"]

        task = await running.client.resume(task.id, "input_3", approve())
        assert (task.state, len(task.pending_inputs)) == (TASK_STATE_INPUT_REQUIRED, 2)
        task = await running.client.resume(task.id, "input_1", approve())
        assert (task.state, [one.input_id for one in task.pending_inputs]) == (TASK_STATE_INPUT_REQUIRED, ["input_2"])
        assert PAID == []
        task = await running.client.resume(task.id, "input_2", deny())
        assert task.state == TASK_STATE_WORKING
        task = await finished(running, task.id)

    assert (task.state, sorted(PAID)) == (TASK_STATE_COMPLETED, [1, 3])
    assert isinstance(asked.model, FakeModel)
    told = [message.text for message in asked.model.requests[-1].messages if message.role is Role.TOOL]
    assert told[0] == "paid 1"
    assert "TOOL_DENIED" in told[1]
    assert told[2] == "paid 3"


async def test_answers_that_come_at_once_are_all_taken_and_the_task_goes_on_once() -> None:
    asked = parts(*(("pay", {"amount": amount}) for amount in range(8)))
    async with started(asked) as running:
        task = await running.client.run("pay all")
        ids = [one.input_id for one in task.pending_inputs]
        await asyncio.gather(*(running.client.resume(task.id, one, approve()) for one in ids * 2))
        task = await finished(running, task.id)
        received = await events_of(running, task.id, "input_received")

    assert (task.state, sorted(PAID), task.attempt) == (TASK_STATE_COMPLETED, list(range(8)), 2)
    assert sorted(event.input_received.input_id for event in received) == ids
    assert [event.input_received.resumes for event in received] == 7 * [False] + [True]


async def test_a_task_waits_only_once_no_call_of_the_turn_runs() -> None:
    begun, released = asyncio.Event(), asyncio.Event()

    @tool(side_effect="read_only")
    async def slow() -> str:
        """Takes its time."""
        begun.set()
        await released.wait()
        return "slowly"

    asked = parts(("pay", {"amount": 5}), ("slow", {}), tools=(pay, slow))
    async with started(asked) as running:
        running_call = asyncio.create_task(running.client.run("both"))
        await begun.wait()
        (task_id,) = running.runner.running
        assert (await running.client.get_task(task_id)).state == TASK_STATE_WORKING
        released.set()
        task = await running_call
        assert task.state == TASK_STATE_INPUT_REQUIRED
        arms = await running.journal(task_id)
        assert arms[4:] == ["tool_started", "tool_finished", "input_required"]
        await running.client.resume(task_id, "input_1", approve())
        await finished(running, task_id)
        assert (await running.journal(task_id)).count("tool_started") == 2

    assert isinstance(asked.model, FakeModel)
    assert [message.text for message in asked.model.requests[-1].messages[-2:]] == ["paid 5", "slowly"]


async def test_arguments_that_break_the_schema_are_told_to_the_model_and_ask_nobody() -> None:
    asked = parts(("pay", {"sum": 5}))
    async with started(asked) as running:
        task = await running.client.run("pay")
        assert task.state == TASK_STATE_COMPLETED
        assert "input_required" not in await running.journal(task.id)


async def test_streams_watchers_and_repetitions_end_where_the_task_begins_to_wait() -> None:
    async with started(parts(("pay", {"amount": 5}))) as running:
        client = running.client
        streamed = [event async for event in client.stream("pay 5", request_id="r")]
        assert streamed[-1].HasField("input_required")
        task_id = streamed[0].task_id
        watched = [event async for event in client.watch(task_id)]
        assert watched[-1] == streamed[-1]
        async with asyncio.timeout(30):
            again = await client.run("pay 5", request_id="r")
            assert (again.id, again.state) == (task_id, TASK_STATE_INPUT_REQUIRED)
            await client.resume(task_id, "input_1", approve())
            again = await client.run("pay 5", request_id="r")
        assert (again.id, again.state, PAID) == (task_id, TASK_STATE_COMPLETED, [5])
        behind = [event async for event in client.watch(task_id, after_sequence=streamed[-1].sequence)]
        assert behind[0].HasField("input_received")
        assert behind[-1].HasField("completed")


async def test_a_caller_that_goes_away_after_its_task_has_asked_takes_nothing_with_it() -> None:
    begun, released = asyncio.Event(), asyncio.Event()

    @tool(side_effect="side_effecting")
    async def pay() -> str:
        """Pays, slowly."""
        begun.set()
        await released.wait()
        return "paid"

    asked = parts(("pay", {}), tools=(pay,))
    asked = replace(asked, options=replace(asked.options, reattach_grace_s=0))
    async with started(asked) as running:
        task = await running.client.run("pay", request_id="r")
        await running.client.resume(task.id, "input_1", approve())
        await begun.wait()
        async with running.channel() as channel:
            request = pb.StreamTaskRequest(run=pb.RunTaskRequest(task="pay", request_id="r"))
            repetition = AgentServiceStub(channel).StreamTask(request, metadata=(("x-api-key", KEY),))
            await repetition.read()
            repetition.cancel()
            async with asyncio.timeout(30):
                while not any(line.get("method", "").endswith("StreamTask") for line in running.log):  # noqa: ASYNC110
                    await asyncio.sleep(0)  # the log is no event
        released.set()
        assert (await finished(running, task.id)).state == TASK_STATE_COMPLETED


class Curious:
    """Asks twice before it answers."""

    def step(self, state: AgentState) -> Action:
        said = [message.text for message in state.messages if message.role is Role.USER]
        return RequireInput(f"question {len(said)}?") if len(said) < 3 else Complete(", ".join(said))


async def test_an_agent_may_ask_and_reads_the_answers_as_the_users() -> None:
    async with started(Parts(agent=Curious())) as running:
        task = await running.client.run("begin")
        for number in (1, 2):
            (asked,) = task.pending_inputs
            assert (asked.kind, asked.question) == (INPUT_KIND_QUESTION, f"question {number}?")
            assert asked.input_id == f"input_{number}"
            await running.client.resume(task.id, asked.input_id, reply(f"answer {number}"))
            task = await finished(running, task.id)
        assert (task.state, task.output) == (TASK_STATE_COMPLETED, "begin, answer 1, answer 2")


async def test_another_process_answers_and_goes_on_as_well() -> None:
    store, asked = FakeStore(), parts(("pay", {"amount": 5}))
    async with started(replace(asked, store=store)) as first, started(replace(asked, store=store)) as second:
        task = await first.client.run("pay 5")
        async with AsyncClient(second.target, api_key=KEY) as client:
            await client.resume(task.id, "input_1", approve())
        task = await finished(first, task.id)
    assert (task.state, PAID) == (TASK_STATE_COMPLETED, [5])
