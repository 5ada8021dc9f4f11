"""Tasks of one session share a conversation, one after the other."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from agent_service.client import CallError, approve
from agent_service.engine.timing import Timing
from agent_service.errors import LLMError
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest, Role
from agent_service.tools.decorator import tool
from agent_service.v1.error_reason_pb2 import ERROR_REASON_LLM_REJECTED
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_FAILED
from tests.fakes.store import FakeStore
from tests.harness import FakeModel, Parts, calls, reply, says, started
from tests.service.worlds import Gate, until


def heard(request: ModelRequest) -> list[tuple[str, str]]:
    return [(str(message.role), message.text) for message in request.messages]


async def echo(request: ModelRequest, _: ModelObserver) -> ModelReply:
    return reply(f"re {request.messages[-1].text}")


async def test_a_task_reads_what_the_session_said_before_it() -> None:
    model = FakeModel(echo)
    async with started(Parts(model=model, instructions="be kind")) as running:
        await running.client.run("one", session_id="s")
        await running.client.run("two", session_id="s")
        await running.client.run("alone")
    assert heard(model.requests[1]) == [
        ("system", "be kind"),
        ("user", "one"),
        ("assistant", "re one"),
        ("user", "two"),
    ]
    assert heard(model.requests[2]) == [("system", "be kind"), ("user", "alone")]


async def test_tool_calls_come_with_their_results_and_failed_tasks_not_at_all() -> None:
    @tool(side_effect="read_only")
    def look() -> str:
        """Looks."""
        return "seen"

    async def refuses(_: ModelRequest, __: ModelObserver) -> ModelReply:
        raise LLMError(ERROR_REASON_LLM_REJECTED, "no")

    model = FakeModel(calls(("look", {})), says("I saw"), refuses, says("again"))
    async with started(Parts(model=model, tools=[look])) as running:
        await running.client.run("look", session_id="s")
        assert (await running.client.run("bad", session_id="s")).state == TASK_STATE_FAILED
        await running.client.run("and now", session_id="s")
    roles = [message.role for message in model.requests[-1].messages]
    assert roles == [Role.USER, Role.ASSISTANT, Role.TOOL, Role.ASSISTANT, Role.USER]
    assert "bad" not in str(heard(model.requests[-1]))


async def test_what_does_not_fit_the_model_is_left_out_by_whole_tasks_the_oldest_first() -> None:
    model = FakeModel(echo)
    async with started(Parts(model=model)) as running:
        long = "word " * 1000  # beside a task and its answer, the window of the model holds one more with its answer
        for number in range(5):
            await running.client.run(f"{number} {long}", session_id="s")
    texts = [text[:4] for role, text in heard(model.requests[-1]) if role == "user"]
    assert texts == ["3 wo", "4 wo"]
    answers = [text for role, text in heard(model.requests[-1]) if role == "assistant"]
    assert len(answers) == 1
    assert answers[0].startswith("re 3 ")


async def test_a_busy_session_lets_the_next_task_wait_its_turn_in_order() -> None:
    gate = Gate()
    model = FakeModel(gate.step, echo)
    async with started(Parts(model=model)) as running:
        first = asyncio.ensure_future(running.client.run("one", session_id="s"))
        await gate.holds()
        second = await running.client.submit("two", session_id="s")
        third = asyncio.ensure_future(running.client.run("three", session_id="s"))
        await until(lambda: len(model.requests) == 1)
        gate.open()
        assert (await first).output == "hello"
        assert (await third).output == "re three"
        assert (await running.client.get_task(second.id)).output == "re two"
    assert [request.messages[-1].text for request in model.requests] == ["one", "two", "three"]
    assert [text for _, text in heard(model.requests[-1])] == ["one", "hello", "two", "re two", "three"]


async def test_behind_ten_others_it_is_busy() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step, echo))) as running:
        for number in range(11):
            await running.client.submit(f"{number}", session_id="s")
        with pytest.raises(CallError) as refused:
            await running.client.submit("one too many", session_id="s")
        assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "SESSION_BUSY")
        assert refused.value.metadata == {"session_id": "s", "unfinished": "11"}
        await running.client.submit("elsewhere", session_id="another")
        gate.open()
        await running.is_quiet()


async def test_64_at_once_into_one_session_let_exactly_eleven_in() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step, echo))) as running:
        calls = (running.client.submit(f"{number}", session_id="s") for number in range(64))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, CallError)]
        assert len(refused) == 64 - 11
        assert {error.reason for error in refused} == {"SESSION_BUSY"}
        gate.open()
        await running.is_quiet()
        listed = (await running.client.list_tasks(session_id="s")).tasks
    assert [task.state for task in listed] == 11 * [TASK_STATE_COMPLETED]


async def test_an_agent_that_rejects_refuses_beside_one_that_runs() -> None:
    gate = Gate()
    async with started(Parts(model=FakeModel(gate.step), session_waiting_max=0)) as running:
        first = asyncio.ensure_future(running.client.run("one", session_id="s"))
        await gate.holds()
        with pytest.raises(CallError, match="SESSION_BUSY"):
            await running.client.run("two", session_id="s")
        gate.open()
        await first
        assert (await running.client.run("three", session_id="s")).state == TASK_STATE_COMPLETED


async def test_a_session_belongs_to_the_agent_that_began_it() -> None:
    async with started(Parts(agents=["assistant", "another"])) as running:
        await running.client.run("one", session_id="s")
        with pytest.raises(CallError) as refused:
            await running.client.run("two", session_id="s", agent="another")
        assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "SESSION_OF_OTHER_AGENT")
        assert refused.value.metadata == {"session_id": "s", "agent": "assistant"}
        await running.client.run("three", session_id="s")


async def test_what_a_busy_session_holds_up_is_tried_again_now_and_then_and_not_all_the_time() -> None:
    @tool(side_effect="read_only")
    def look() -> str:
        """Looks."""
        return "seen"

    store = FakeStore()
    parts = Parts(model=FakeModel(calls(("look", {}))), tools=[look], needs_approval=["look"], store=store)
    async with started(parts) as running:
        await running.client.run("look", session_id="s")
        await running.client.submit("two", session_id="s")
        await until(lambda: store.reads)
        before = store.reads
        for _ in range(50):
            await running.client.list_agents()
        assert store.reads - before < 10


async def test_sessions_of_one_name_of_two_tenants_know_nothing_of_each_other() -> None:
    model = FakeModel(echo)
    async with started(Parts(model=model, session_waiting_max=0)) as running:
        await running.client.run("ours", session_id="s")
        await running.other_tenant.run("theirs", session_id="s")
        assert heard(model.requests[-1]) == [("user", "theirs")]
        with pytest.raises(CallError, match="SESSION_NOT_FOUND"):
            await running.other_tenant.delete_session("another")
        assert await running.other_tenant.delete_session("s") == 1
        assert len((await running.client.list_tasks(session_id="s")).tasks) == 1


async def test_a_task_that_waits_for_input_keeps_its_session_busy() -> None:

    @tool(side_effect="read_only")
    def look() -> str:
        """Looks."""
        return "seen"

    model = FakeModel(calls(("look", {})), says("I saw"), echo)
    async with started(Parts(timing=Timing(adopt=0.01), model=model, tools=[look], needs_approval=["look"])) as running:
        first = await running.client.run("look", session_id="s")
        second = asyncio.ensure_future(running.client.run("two", session_id="s"))
        await until(lambda: any(line["event"] == "rpc" for line in running.log))
        assert len(model.requests) == 1
        await running.client.resume(first.id, "input_1", approve())
        assert (await second).output == "re two"
    assert [text for role, text in heard(model.requests[-1]) if role != "tool"] == ["look", "", "I saw", "two"]


@pytest.mark.parametrize("follow_s", [0.005, 3600.0])
async def test_a_session_goes_on_once_the_task_before_was_erased_elsewhere(follow_s: float) -> None:
    """Whether its end was followed, or it was erased before that."""

    @tool(side_effect="read_only")
    def look() -> str:
        """Looks."""
        return "seen"

    store = FakeStore()
    asking = Parts(model=FakeModel(calls(("look", {}))), tools=[look], needs_approval=["look"], store=store)
    going_on = Parts(timing=Timing(adopt=0.01, follow=follow_s), model=FakeModel(echo), store=store)
    async with started(asking) as here:
        first = await here.client.run("look", session_id="s")
        # Only now: a process without the tool may claim the task before this one has begun it, and rejects it then.
        async with started(going_on) as there:
            second = await there.client.submit("two", session_id="s")
            await until(lambda: there.service.line.counts.behind_session == 1)
            await here.client.cancel(first.id)
            await here.client.delete_task(first.id)
            async with asyncio.timeout(20), aclosing(there.client.watch(second.id)) as events:
                seen = [event async for event in events]
    assert seen[-1].completed.output == "re two"
