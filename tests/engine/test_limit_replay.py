"""What a new process charges for what happened before it began."""

from __future__ import annotations

import time

import pytest

from agent_service.engine.limit_replay import replay_charges
from agent_service.errors import RateLimitError
from agent_service.limits.base import Charge, Rule, Stage, Subject
from agent_service.limits.memory import MemoryLimiter
from agent_service.store.memory import MemoryStore
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import Usage
from tests.harness import FakeModel, Parts, says, started
from tests.store.events import event

ACME = Subject("acme", "assistant", "fast")


def told(arm: str, age_s: float, task_id: str = "t") -> TaskEvent:
    is_sent, is_stopped = arm != "never_sent", arm in ("stopped", "never_sent")
    arm = "model_failed" if is_stopped else arm
    made = event(arm, task_id, attempt=0 if arm == "submitted" else 1)
    if is_stopped:
        made.model_failed.failure.reason = reasons.ERROR_REASON_STOPPED
    made.create_time.FromMicroseconds(int((time.time() - age_s) * 1e6))
    if arm == "model_started":
        made.model_started.model, made.model_started.tokens_reserved = "fast", 100
    elif arm in ("model_replied", "model_failed") and is_sent:
        getattr(made, arm).usage.CopyFrom(Usage(input_tokens=20, output_tokens=10))
    return made


async def replayed(*events: TaskEvent, rules: list[Rule]) -> MemoryLimiter:
    limiter, store = MemoryLimiter(rules), MemoryStore()
    await store.append([told("submitted", 1000.0), *events], attempt=0)
    await replay_charges(store, limiter.replay, window_s=limiter.window_s)
    return limiter


def tokens_left(limiter: MemoryLimiter, limit: int) -> int:
    status = limiter.reserve_now(Charge(ACME, Stage.ALL, tokens=1)).status
    assert status is not None
    assert status.limit == limit
    return status.remaining + 1


@pytest.mark.parametrize(
    ("events", "charged"),
    [
        ([("model_started", 5), ("model_replied", 3)], 30),
        ([("model_started", 5), ("model_failed", 3)], 30),
        ([("model_started", 5)], 100),
        ([("model_started", 5), ("stopped", 3)], 100),
        ([("model_started", 5), ("never_sent", 3)], 0),
        ([("model_started", 9), ("attempt_ended", 8), ("model_started", 5), ("model_replied", 3)], 130),
        ([("model_started", 70), ("model_replied", 3)], 0),
        ([("model_started", 9), ("model_replied", 8), ("model_started", 7)], 130),
        ([("model_started", -3600)], 100),
    ],
    ids=[
        "replied",
        "failed",
        "open",
        "stopped",
        "never sent",
        "lost",
        "left the window",
        "two turns",
        "a clock that was set back",
    ],
)
async def test_a_request_is_charged_as_it_was(events: list[tuple[str, float]], charged: int) -> None:
    # Made here and not above: their ages are told from now.
    limiter = await replayed(*(told(arm, age_s) for arm, age_s in events), rules=[Rule("default", tokens_max=1000)])
    assert tokens_left(limiter, 1000) == 1000 - charged
    limiter.reserve_now(Charge(ACME, Stage.ALL, tokens=1000 - charged - 1))
    with pytest.raises(RateLimitError):
        limiter.reserve_now(Charge(ACME, Stage.ALL, tokens=1))


async def test_a_replayed_charge_leaves_when_it_would_have() -> None:
    limiter = await replayed(told("model_started", 45), told("completed", 1), rules=[Rule("default", tokens_max=100)])
    with pytest.raises(RateLimitError) as caught:
        limiter.reserve_now(Charge(ACME, Stage.ALL, tokens=1))
    assert 5 < (caught.value.retry_after_s or 0) <= 15


async def test_what_a_server_charged_is_what_the_next_one_finds_charged() -> None:
    store = MemoryStore()
    rules = [
        Rule("default", calls_max=100, model_calls_max=100, tokens_max=100_000, window_s=3600),
        Rule("agent", agent="assistant", calls_max=100, window_s=3600),
        Rule("other", model="other", tokens_max=1, calls_max=1, window_s=3600),
    ]
    async with started(Parts(store=store, model=FakeModel(says("hi")), rules=rules)) as running:
        for text in ("one", "two", "three"):
            await running.client.run(text)
        await running.is_quiet()
        before = running.limiter
    after = MemoryLimiter(rules)
    assert await replay_charges(store, after.replay, window_s=after.window_s) == 3
    for charge in (
        Charge(Subject("acme"), Stage.REQUEST, calls=1),
        Charge(Subject("acme", "assistant", "fake"), Stage.TASK, calls=1),
        Charge(Subject("acme", "assistant", "fake"), Stage.ALL, model_calls=1),
        Charge(Subject("acme", "assistant", "fake"), Stage.ALL, tokens=1),
        Charge(Subject("globex", "assistant", "fake"), Stage.ALL, tokens=1),
    ):
        old, new = before.reserve_now(charge).status, after.reserve_now(charge).status
        assert old is not None
        assert new is not None
        assert (new.rule, new.limit, new.remaining) == (old.rule, old.limit, old.remaining)
