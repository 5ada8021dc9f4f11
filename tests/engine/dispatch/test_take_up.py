"""Who may drive a task next, by its journal alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agent_service.engine.dispatch.quarantine import Quarantine
from agent_service.engine.dispatch.take_up import Adopter, Attempt, NotNow, Rejected
from agent_service.engine.runtime import AgentRuntime
from agent_service.engine.task.state import FoldedTask
from agent_service.engine.timing import Timing
from agent_service.errors import OverloadedError
from agent_service.v1.error_reason_pb2 import ERROR_REASON_KEY_REVOKED
from agent_service.v1.task_event_pb2 import ATTEMPT_END_CAUSE_LOST, TaskEvent
from agent_service.v1.task_pb2 import TASK_STATE_REJECTED, TASK_STATE_SUBMITTED, Failure
from tests.fakes.store import FakeStore
from tests.harness import Parts, Running, left
from tests.harness import started as server
from tests.store.events import ending, event, started, submitted, waits

NEVER_S = 3600.0
REVOKED = Failure(reason=ERROR_REASON_KEY_REVOKED, message="the key is gone")


class AnyRuntime:
    """The same runtime for every task, or a reason why none may begin."""

    def __init__(self, found: AgentRuntime | Failure) -> None:
        self.found = found

    def of(self, _: FoldedTask) -> AgentRuntime | Failure:
        return self.found


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    """A process whose sweeps do not adopt what a test writes into its store."""
    timing = Timing(adopt=NEVER_S, follow=NEVER_S, deadline=NEVER_S)
    async with server(Parts(store=FakeStore(), timing=timing)) as process:
        yield process


@pytest.fixture
def runtimes(running: Running) -> AnyRuntime:
    return AnyRuntime(running.service.runtimes.catalog.agents["assistant"].runtime)


@pytest.fixture
def quarantine() -> Quarantine:
    return Quarantine()


@pytest.fixture
def adopter(running: Running, runtimes: AnyRuntime, quarantine: Quarantine) -> Adopter:
    return Adopter(running.store, running.store, running.service.idle, runtimes, quarantine)


def lost(task_id: str, attempt: int) -> TaskEvent:
    ended = event("attempt_ended", task_id, attempt=attempt)
    ended.attempt_ended.cause = ATTEMPT_END_CAUSE_LOST
    return ended


async def write(running: Running, *events: TaskEvent) -> None:
    """Write a journal as other processes would have."""
    owned = 0
    for one in events:
        await running.store.append([one], attempt=owned)
        owned = one.attempt


async def test_a_queued_task_is_taken_up_with_its_whole_journal(running: Running, adopter: Adopter) -> None:
    await write(running, submitted())
    taken = await adopter.take_up("t", 0)
    assert isinstance(taken, Attempt)
    assert (taken.folded.task.state, taken.folded.task.last_sequence) == (TASK_STATE_SUBMITTED, 1)
    assert taken.runtime.name == "assistant"


async def test_taking_up_writes_nothing_and_any_process_may_do_it(running: Running, adopter: Adopter) -> None:
    await write(running, submitted(), started(worker="gone"))
    for _ in range(2):
        taken = await adopter.take_up("t", 1)
        assert isinstance(taken, Attempt)
        assert taken.folded.attempt_is_open
    assert await running.journal("t") == ["submitted", "attempt_started"]


async def test_an_ended_task_is_not_taken_up(running: Running, adopter: Adopter) -> None:
    await write(running, submitted(), started(), *ending())
    assert await adopter.take_up("t", 1) is NotNow.ENDED


async def test_an_erased_task_is_not_taken_up(adopter: Adopter) -> None:
    assert await adopter.take_up("t", 0) is NotNow.ENDED


async def test_a_task_that_waits_for_input_is_not_taken_up(running: Running, adopter: Adopter) -> None:
    await write(running, submitted(), started(), waits(until_s=60))
    assert await adopter.take_up("t", 1) is NotNow.WAITS_FOR_INPUT


async def test_a_task_with_a_newer_attempt_is_not_taken_up(running: Running, adopter: Adopter) -> None:
    await write(running, submitted(), started())
    assert await adopter.take_up("t", 0) is NotNow.TAKEN


async def test_a_task_that_may_not_begin_is_rejected(running: Running, adopter: Adopter, runtimes: AnyRuntime) -> None:
    await write(running, submitted())
    runtimes.found = REVOKED
    assert await adopter.take_up("t", 0) == Rejected(REVOKED)
    assert await running.journal("t") == ["submitted", "rejected"]
    row = await running.store.find("t")
    assert row is not None
    assert row.state == TASK_STATE_REJECTED
    assert await left(running.store) == []


async def test_of_two_suspects_one_is_taken_up(running: Running, adopter: Adopter, quarantine: Quarantine) -> None:
    for task_id in ("a", "b"):
        await write(running, submitted(task_id), started(task_id), lost(task_id, 1), started(task_id, attempt=2))
    await write(running, submitted("innocent"), started("innocent"))
    assert isinstance(await adopter.take_up("a", 2), Attempt)
    assert await adopter.take_up("b", 2) is NotNow.QUARANTINED
    assert isinstance(await adopter.take_up("innocent", 1), Attempt)
    assert isinstance(await adopter.take_up("a", 2), Attempt)
    quarantine.done("a")
    assert isinstance(await adopter.take_up("b", 2), Attempt)


async def test_a_session_is_taken_up_with_what_was_said(running: Running, adopter: Adopter) -> None:
    await running.client.run("earlier", session_id="s")
    await write(running, submitted("later", session="s"))
    taken = await adopter.take_up("later", 0)
    assert isinstance(taken, Attempt)
    said = [message.text for message in taken.folded.agent_state.messages]
    assert said[:2] == ["earlier", "hello"]


async def test_a_store_that_is_away_decides_nothing(running: Running, adopter: Adopter) -> None:
    await write(running, submitted())
    assert isinstance(running.store, FakeStore)
    running.store.read_failures = 1
    with pytest.raises(OverloadedError):
        await adopter.take_up("t", 0)
    assert isinstance(await adopter.take_up("t", 0), Attempt)
