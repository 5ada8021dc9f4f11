"""Limit replay: restores the charges of earlier processes from the journal at start.

A task's calls were charged when it was submitted. A request to a model was charged with the tokens that it reserved,
and from its end on with those that it used; a request that was never sent, with none. A request that a crash left open,
or that was stopped, stays charged as reserved. The journal's times are slightly later than the charges, so nothing
leaves a window early. Calls that created no task are not in the journal and are not replayed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from agent_service.limits.base import Charge, Stage, Subject
from agent_service.store.base import History, Recent
from agent_service.text.times import to_seconds
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import ModelFailed, ModelReplied, TaskEvent

# Takes a charge and its age in seconds.
Replay = Callable[[Charge, float], None]


async def replay_charges(store: History, replay: Replay, *, window_s: float) -> int:
    """Call `replay` for every charge that a window of `window_s` still covers. Return the number of tasks.

    Raises:
        OverloadedError: STORE_UNAVAILABLE.
    """
    tasks = 0
    async for page in store.recent(int((time.time() - window_s) * 1e6)):
        tasks += len(page)
        now = time.time()
        for task in page:
            for charge, at_s in charges_of(task):
                # After the clock was set back, a charge must not get a time in the future.
                replay(charge, max(0.0, now - at_s))
    return tasks


def charges_of(task: Recent) -> Iterator[tuple[Charge, float]]:
    """Yield the charges of a task's events, each with its Unix time in seconds."""
    started: TaskEvent | None = None
    for event in task.events:
        match event.WhichOneof("event"):
            case "submitted":
                subject = Subject(task.tenant, task.agent, event.submitted.model)
                yield Charge(Subject(task.tenant), Stage.REQUEST, calls=1), to_seconds(event.create_time)
                yield Charge(subject, Stage.TASK, calls=1), to_seconds(event.create_time)
            case "model_started":
                yield from _open(task, started)
                started = event
            case "model_replied" if started is not None:
                yield _request(task, started, _used(event.model_replied))
                started = None
            case "model_failed" if started is not None and not event.model_failed.HasField("usage"):
                started = None  # never sent
            case "model_failed" if started is not None and _is_settled(event.model_failed):
                yield _request(task, started, _used(event.model_failed))
                started = None
    yield from _open(task, started)


def _open(task: Recent, started: TaskEvent | None) -> Iterable[tuple[Charge, float]]:
    return () if started is None else [_request(task, started, started.model_started.tokens_reserved)]


def _request(task: Recent, started: TaskEvent, tokens: int) -> tuple[Charge, float]:
    subject = Subject(task.tenant, task.agent, started.model_started.model)
    return Charge(subject, Stage.ALL, model_calls=1, tokens=tokens), to_seconds(started.create_time)


def _used(ended: ModelReplied | ModelFailed) -> int:
    return ended.usage.input_tokens + ended.usage.output_tokens


def _is_settled(failed: ModelFailed) -> bool:
    """Return whether the usage is final. That of a stopped request is an estimate, and less than it reserved."""
    return failed.failure.reason != reasons.ERROR_REASON_STOPPED
