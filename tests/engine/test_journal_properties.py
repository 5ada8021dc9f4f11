"""What holds for every journal that any sequence of commands, crashes and delays can make."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent_service.client import approve, deny, failure, reply, result, run_again
from agent_service.engine.task.state import FoldedTask
from agent_service.engine.timing import Timing
from agent_service.journal.event_rules import NEXT_STATES
from agent_service.store.memory import MemoryStore
from agent_service.tools import runner
from agent_service.v1.error_reason_pb2 import ERROR_REASON_INTERNAL
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import (
    INPUT_KIND_APPROVAL,
    INPUT_KIND_OUTCOME_UNKNOWN,
    INPUT_KIND_QUESTION,
    InputAnswer,
)
from tests.fakes.simulator import NEED_APPROVAL, TOOLS, Process, World

PROCESSES_MAX = 3
TASKS_MAX = 3
# Far more turns of the loop than any task here takes to its end.
PATIENCE = 5000

ANSWERS = {
    INPUT_KIND_APPROVAL: [approve(), deny("no")],
    INPUT_KIND_OUTCOME_UNKNOWN: [run_again(), result("by hand"), failure("it was not")],
    INPUT_KIND_QUESTION: [reply("because")],
}
TURNS = st.one_of(st.just(["?"]), st.lists(st.sampled_from(sorted(TOOLS)), min_size=1, max_size=3))
A_FEW = st.integers(0, 7)


def events_of(store: MemoryStore, task_id: str) -> list[TaskEvent]:
    """A journal as whoever reads it next will find it."""
    payloads = store._journals[task_id].payloads
    events = [TaskEvent.FromString(payload) for payload in payloads]
    for sequence, event in enumerate(events, 1):
        event.sequence = sequence
    return events


def shape(folded: FoldedTask) -> dict[str, Any]:
    """All that a fold knows."""
    return {name: getattr(folded, name) for name in FoldedTask.__slots__ if name != "agent_state"} | {
        name: getattr(folded.agent_state, name) for name in ("messages", "last_reply", "calls_open", "results")
    }


# Periodic work is done in every turn of the loop, but for what ends queued tasks: the store tells it when it is late.
AT_ONCE = Timing(
    heartbeat=0.0, adopt=0.0, follow=0.0, publish_callers=0.0, lazy_flush=0.0, store_retry=0.0, release=0.02
)


class Commands(RuleBasedStateMachine):
    """Everything that people, processes and the machines under them do to tasks, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self._patches = pytest.MonkeyPatch()
        self._patches.setattr(runner, "CANCEL_GRACE_S", 0.0)
        self._loop = asyncio.new_event_loop()
        self._store = MemoryStore()
        self._world = World()
        self._processes: list[Process] = []
        self._frozen: list[Process] = []
        self._draining: list[Process] = []
        self._commands: list[asyncio.Task[Any]] = []
        self._accepted: list[str] = []
        self._submitted = 0
        self._in_loop(self._start())

    @rule()
    @precondition(lambda self: len(self._processes) + len(self._frozen) < PROCESSES_MAX)
    def start_a_process(self) -> None:
        self._in_loop(self._start())

    @rule(script=st.lists(TURNS, max_size=3), which=A_FEW, queued=st.booleans())
    @precondition(lambda self: self._processes and self._submitted < TASKS_MAX)
    def submit(self, script: list[list[str]], which: int, queued: bool) -> None:
        self._submitted += 1
        process = self._one(which)
        self._in_loop(_sync(lambda: process.submit(script, self._accepted, queued=queued)))

    @rule(task=A_FEW, which=A_FEW)
    @precondition(lambda self: self._processes and self._accepted)
    def cancel(self, task: int, which: int) -> None:
        process, task_id = self._one(which), self._task(task)
        self._in_loop(_sync(lambda: process.cancel(task_id)))

    @rule(task=A_FEW, which=A_FEW, asked=A_FEW, answer=A_FEW, steps=A_FEW)
    @precondition(lambda self: self._processes and self._accepted)
    def answer(self, task: int, which: int, asked: int, answer: int, steps: int) -> None:
        process, task_id = self._one(which), self._task(task)
        pending = FoldedTask.fold(events_of(self._store, task_id)).task.pending_inputs
        if not pending:
            return
        one = pending[asked % len(pending)]
        takes = ANSWERS[one.kind]
        self._in_loop(_sync(lambda: process.resume(task_id, one.input_id, takes[answer % len(takes)])), steps)

    @rule(task=A_FEW, which=A_FEW, number=st.integers(1, 4), kind=st.sampled_from(sorted(ANSWERS)))
    @precondition(lambda self: self._processes and self._accepted)
    def answer_blindly(self, task: int, which: int, number: int, kind: Any) -> None:
        process, task_id = self._one(which), self._task(task)
        answer: InputAnswer = ANSWERS[kind][0]
        self._in_loop(_sync(lambda: process.resume(task_id, f"input_{number}", answer)))

    @rule(which=A_FEW, steps=st.integers(0, 40))
    def let_one_model_or_tool_go_on(self, which: int, steps: int) -> None:
        self._in_loop(_sync(lambda: self._world.release_on(which)), steps)

    @rule(times=st.integers(2, 6))
    def let_things_go_on(self, times: int) -> None:
        for _ in range(times):
            self.let_one_model_or_tool_go_on(0, 25)

    @rule(steps=st.integers(1, 60))
    def wait(self, steps: int) -> None:
        self._in_loop(_sync(lambda: None), steps)

    @rule(which=A_FEW)
    @precondition(lambda self: self._processes)
    def crash(self, which: int) -> None:
        process = self._one(which)
        self._processes.remove(process)
        self._in_loop(process.crash())

    @rule(which=A_FEW, steps=st.integers(0, 40))
    @precondition(lambda self: self._processes)
    def freeze(self, which: int, steps: int) -> None:
        process = self._one(which)
        self._processes.remove(process)
        self._frozen.append(process)
        self._in_loop(_sync(process.freeze), steps)

    @rule(which=A_FEW, steps=st.integers(0, 40))
    @precondition(lambda self: self._frozen)
    def thaw(self, which: int, steps: int) -> None:
        process = self._frozen.pop(which % len(self._frozen))
        self._processes.append(process)
        self._in_loop(_sync(process.thaw), steps)

    @rule(which=A_FEW)
    @precondition(lambda self: self._processes)
    def drain(self, which: int) -> None:
        process = self._one(which)
        self._processes.remove(process)
        self._draining.append(process)
        self._in_loop(_sync(process.drain))

    @rule(which=A_FEW, failures=st.integers(1, 3))
    @precondition(lambda self: self._processes)
    def fill_the_disk(self, which: int, failures: int) -> None:
        self._one(which).link.failures = failures

    @rule(which=A_FEW, value=st.booleans())
    @precondition(lambda self: self._processes)
    def make_the_store_read_only(self, which: int, value: bool) -> None:
        self._one(which).link.is_read_only = value

    @rule(which=A_FEW, value=st.booleans())
    @precondition(lambda self: self._processes)
    def hide_what_others_write(self, which: int, value: bool) -> None:
        self._one(which).link.is_deaf = value

    @rule(which=A_FEW, value=st.booleans())
    @precondition(lambda self: self._processes)
    def hide_the_locks(self, which: int, value: bool) -> None:
        self._one(which).link.sight.is_blind = value

    @rule(which=A_FEW, steps=st.integers(0, 60), failures=st.integers(0, 30))
    @precondition(lambda self: self._processes)
    def disturb_the_heartbeat(self, which: int, steps: int, failures: int) -> None:
        link = self._one(which).link
        link.beat_steps, link.beat_failures = steps, failures

    @rule(which=A_FEW, hours=st.sampled_from([-24 * 365, -1, 0, 1]))
    @precondition(lambda self: self._processes)
    def set_the_clock(self, which: int, hours: int) -> None:
        self._one(which).ahead_s = hours * 3600.0

    @rule(which=A_FEW)
    @precondition(lambda self: self._processes)
    def fail_one_append(self, which: int) -> None:
        self._world.has_fault = True
        self._one(which).link.faults += 1

    @rule(value=st.booleans())
    def let_tools_ignore_cancellation(self, value: bool) -> None:
        self._world.is_stubborn = value

    @rule(which=A_FEW, steps=st.integers(0, 20))
    @precondition(lambda self: self._processes)
    def let_waits_run_out(self, which: int, steps: int) -> None:
        link = self._one(which).link
        link.is_late = True
        self._in_loop(_sync(lambda: None), steps)
        link.is_late = False

    @invariant()
    def every_journal_folds_and_nobody_stumbled(self) -> None:
        for task_id in self._store._journals:
            FoldedTask.fold(events_of(self._store, task_id))
        assert self._world.faults == []

    def teardown(self) -> None:
        try:
            self._in_loop(self._bring_to_an_end())
            for task_id in self._accepted:
                assert task_id in self._store._journals
            for task_id in self._store._journals:
                check_journal(events_of(self._store, task_id), self._world.runs, had_fault=self._world.has_fault)
            assert self._world.faults == []
        finally:
            self._in_loop(self._cancel_all())
            self._loop.close()
            self._patches.undo()

    async def _bring_to_an_end(self) -> None:
        """Thaw who is frozen, answer what is asked, and wait until every task has ended."""
        self._world.let_all_go_on()
        for process in self._frozen:
            process.thaw()
        for process in [*self._processes, *self._frozen, *self._draining]:
            process.ahead_s = 0.0
            link = process.link
            link.is_read_only = link.is_deaf = link.sight.is_blind = False
            link.failures = link.faults = link.beat_failures = link.beat_steps = 0
        await self._start()
        helper = self._processes[-1]
        for turn in range(PATIENCE):
            await asyncio.sleep(0)
            if turn % 50:
                continue
            folded = [FoldedTask.fold(events_of(self._store, task_id)) for task_id in self._store._journals]
            if all(one.is_terminal for one in folded):
                return
            for one in folded:
                for asked in one.task.pending_inputs:
                    helper.resume(one.task.id, asked.input_id, ANSWERS[asked.kind][0])
        journals = {task_id: events_of(self._store, task_id) for task_id in self._store._journals}
        raise AssertionError(f"some task never ends: {journals}")

    async def _start(self) -> None:
        process = Process(self._world, self._store, timing=AT_ONCE)
        await process.service.begin()
        self._processes.append(process)

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        while tasks:
            # Told once more where once was not enough: who writes down its end waits for a store that is gone.
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=0.1)

    def _in_loop(self, work: Coroutine[Any, Any, None], steps: int = 0) -> None:
        async def and_some_more() -> None:
            await work
            for _ in range(steps):
                await asyncio.sleep(0)

        self._loop.run_until_complete(and_some_more())

    def _one(self, which: int) -> Process:
        return self._processes[which % len(self._processes)]

    def _task(self, which: int) -> str:
        return self._accepted[which % len(self._accepted)]


async def _sync(action: Any) -> None:
    action()


def check_journal(events: Sequence[TaskEvent], runs: Sequence[str], *, had_fault: bool = False) -> None:
    """All that a finished journal must say."""
    folded = FoldedTask.fold(events)
    assert folded.is_terminal
    assert had_fault or folded.task.failure.reason != ERROR_REASON_INTERNAL
    check_prefixes(events)
    check_ends(events)
    check_attempts(events)
    check_calls(events, runs)


def check_ends(events: Sequence[TaskEvent]) -> None:
    """Lists show of the two ends of a journal what all of it makes."""
    whole = FoldedTask.fold(events).task
    if whole.attempt <= 1:
        shown = FoldedTask.of_first_and_last(events[0], events[-1], whole.attempt, with_output=True).task
        if any(event.HasField("input_received") for event in events):
            # Answered, and ended before anybody went on: the deadline that the wait moved binds nobody.
            shown.deadline.CopyFrom(whole.deadline)
        assert shown == whole


def check_prefixes(events: Sequence[TaskEvent]) -> None:
    """Any prefix folds; folding a prefix and then the rest is folding all; every step is one that may be."""
    whole = shape(FoldedTask.fold(events))
    state = 0
    for cut in range(len(events) + 1):
        copies = [TaskEvent.FromString(event.SerializeToString()) for event in events]
        folded = FoldedTask.fold(copies[:cut])
        assert folded.task.state == state or folded.task.state in NEXT_STATES[state]  # type: ignore[index]
        assert folded.task.last_sequence == cut
        state = folded.task.state
        for event in copies[cut:]:
            folded.apply(event)
        assert shape(folded) == whole


def check_attempts(events: Sequence[TaskEvent]) -> None:
    """Attempts are counted without a gap, and what happens belongs to the newest."""
    newest = 0
    for event in events:
        if event.HasField("attempt_started"):
            newest += 1
        assert event.attempt == newest


def check_calls(events: Sequence[TaskEvent], runs: Sequence[str]) -> None:
    """No call runs unasked or unapproved, none once it has finished, and none while the task begins to wait."""
    starts: dict[str, int] = {}
    allowed: dict[str, int] = {}
    asked: dict[str, Any] = {}
    running: set[str] = set()
    finished: set[str] = set()
    side_effecting: set[str] = set()
    for event in events:
        match event.WhichOneof("event"):
            case "attempt_started":
                running.clear()
            case "tool_started":
                call_id, name = event.tool_started.tool_call_id, event.tool_started.name
                assert call_id not in finished
                first = 0 if name in NEED_APPROVAL else 1
                if TOOLS[name] == "side_effecting":
                    side_effecting.add(call_id)
                    assert starts.get(call_id, 0) < first + allowed.get(call_id, 0)
                else:
                    assert first + allowed.get(call_id, 0) > 0
                starts[call_id] = starts.get(call_id, 0) + 1
                running.add(call_id)
            case "tool_finished":
                call_id = event.tool_finished.tool_call_id
                assert call_id not in finished
                finished.add(call_id)
                running.discard(call_id)
            case "input_required":
                assert not running
                asked.update({one.input_id: one for one in event.input_required.inputs})
            case "input_received":
                received = event.input_received
                assert received.answered_by == "acme"
                if received.answer.WhichOneof("answer") in ("approve", "run_again"):
                    call_id = asked[received.input_id].tool_call.id
                    allowed[call_id] = allowed.get(call_id, 0) + 1
    for call_id in side_effecting:
        # Fewer, where the process was gone once the start was stored.
        assert runs.count(f"{events[0].task_id}/{call_id}") <= starts[call_id]


TestCommands = Commands.TestCase
TestCommands.settings = settings(
    max_examples=int(os.environ.get("JOURNAL_EXAMPLES", "40")),
    derandomize="JOURNAL_EXAMPLES" not in os.environ,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
