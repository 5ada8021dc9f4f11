"""The kill test in short; `make test-kill` is the long form."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from agent_service.v1.task_event_pb2 import ATTEMPT_END_CAUSE_LOST, TaskEvent
from agent_service.v1.tool_pb2 import TOOL_SIDE_EFFECT_SIDE_EFFECTING
from tests.faults import killing
from tests.faults.killing import kill_test
from tests.store.events import beginning, ending, event


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("processes", "kills"), [(1, 10), (2, 12)])
async def test_servers_that_are_killed_again_and_again_lose_nothing_and_do_nothing_twice(
    tmp_path: Path, processes: int, kills: int
) -> None:
    assert await kill_test(tmp_path, kills=kills, seed=20, processes=processes, life_s=0.6) == []


def test_what_the_kill_test_would_tell_it_tells() -> None:
    """Its own check can fail: each finding, from a journal that has that fault."""

    def numbered(*events: TaskEvent) -> list[TaskEvent]:
        for sequence, one in enumerate(events, 1):
            one.sequence = sequence
        return list(events)

    def call(arm: str) -> TaskEvent:
        made = event(arm, attempt=1)
        getattr(made, arm).tool_call_id = "c1"
        if arm == "tool_started":
            made.tool_started.side_effect = TOOL_SIDE_EFFECT_SIDE_EFFECTING
        return made

    def wrong(*events: TaskEvent, acted: int = 0) -> list[str]:
        return killing.wrong_with_calls(list(events), Counter({"t/c1": acted}))

    none: Counter[str] = Counter()
    assert killing.wrong_with([], none, None) == ["accepted, and lost"]
    assert killing.wrong_with(numbered(*beginning()), none, None) == ["it did not end"]
    whole = numbered(*beginning(), *ending())
    assert killing.wrong_with(whole, none, None) == []
    assert killing.wrong_with(whole[:2] + whole[3:], none, None) == ["its journal has gaps"]
    started, finished = call("tool_started"), call("tool_finished")
    assert wrong(started, finished, acted=1) == []
    assert "started again after it had finished" in wrong(started, finished, started, finished)[0]
    assert "was started 2 times" in wrong(started, started, finished)[0]
    assert "acted 2 times in 1 starts" in wrong(started, finished, acted=2)[0]
    assert "nobody was asked" in wrong(started)[0]
    begun = event("attempt_started", attempt=1)
    begun.attempt_started.worker = "host:7:abc"
    lost = event("attempt_ended", attempt=1)
    lost.attempt_ended.cause = ATTEMPT_END_CAUSE_LOST
    assert killing.wrong_with_attempts([begun, lost], {"7"}) == []
    assert "host:7:abc was taken for lost" in killing.wrong_with_attempts([begun, lost], {"8"})[0]
    late = call("tool_finished")
    late.attempt = 2
    assert "without asking" in wrong(started, late)[0]
