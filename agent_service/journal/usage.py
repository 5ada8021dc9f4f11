"""What events use, by hour, tenant, agent and model.

Every event that uses something says what by itself, but for two things that follow from the events before it: which
model it belongs to, and whether a tool's start is the repetition of an interrupted one. The first is a column of the
task; the second is looked up, since only a task that was taken over can repeat anything.

Knows nothing of prices: what a request cost stands in its event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import Usage

HOUR_S = 3600


class Amounts(NamedTuple):
    """What can be used. Every adapter keeps these, in this order, under these names; see `UsageRow` of the contract."""

    tasks: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nanos: int = 0
    estimated_calls: int = 0
    estimated_tokens: int = 0
    estimated_cost_nanos: int = 0
    unpriced_calls: int = 0


class UsageKey(NamedTuple):
    """Whose. `hour` counts from 1970, UTC."""

    tenant: str
    hour: int
    agent: str
    model: str


class Used(NamedTuple):
    """What one event used. `asks` is the model that the task asks from then on, "" where that stays as it is; `call_id`
    the tool call that starts, which after the first attempt `may_repeat` one that was interrupted.
    """

    hour: int
    asks: str
    amounts: Amounts
    call_id: str = ""
    may_repeat: bool = False


class Counted(NamedTuple):
    """What some events of one task add to the sums, and the model that the task asks after them."""

    asked: str
    sums: list[tuple[UsageKey, Amounts]]


def count(used: Iterable[Used], *, tenant: str, agent: str, asked: str, is_repeated: Callable[[str], bool]) -> Counted:
    """Return what events of one task add to the sums; `asked` is the model that the task asked before them.

    `is_repeated` says of a tool call's id whether the task had started it before these events.
    """
    sums: list[tuple[UsageKey, Amounts]] = []
    started: set[str] = set()
    for use in used:
        asked = use.asks or asked
        if use.may_repeat and (use.call_id in started or is_repeated(use.call_id)):
            continue
        if use.call_id:
            started.add(use.call_id)
        sums.append((UsageKey(tenant, use.hour, agent, asked), use.amounts))
    return Counted(asked, sums)


def of_submitted(event: TaskEvent, hour: int) -> Used:
    """Return a task."""
    return Used(hour, event.submitted.model, _TASK)


def of_model_started(event: TaskEvent, hour: int) -> Used:
    """Return a model call."""
    return Used(hour, event.model_started.model, _MODEL_CALL)


def of_model_failed(event: TaskEvent, hour: int) -> Used | None:
    """Return what a failed request used; for one that was never sent, the opposite of a model call."""
    failed = event.model_failed
    return _of_request(failed.usage, hour) if failed.HasField("usage") else Used(hour, "", _NEVER_SENT)


def of_model_replied(event: TaskEvent, hour: int) -> Used | None:
    """Return what a request used."""
    return _of_request(event.model_replied.usage, hour)


def of_tool_started(event: TaskEvent, hour: int) -> Used:
    """Return a tool call."""
    return Used(hour, "", _TOOL_CALL, event.tool_started.tool_call_id, event.attempt > 1)


def _of_request(usage: Usage, hour: int) -> Used | None:
    read, written, cost = usage.input_tokens, usage.output_tokens, usage.cost_nanos
    if not read and not written and not usage.estimated:
        return None
    estimated = (1, read + written, cost) if usage.estimated else (0, 0, 0)
    unpriced = int(not usage.HasField("cost_nanos") and read + written > 0)
    cached, reasoning = usage.cached_input_tokens, usage.reasoning_tokens
    return Used(hour, "", Amounts(0, 0, 0, read, cached, written, reasoning, cost, *estimated, unpriced))


_TASK = Amounts(tasks=1)
_MODEL_CALL = Amounts(model_calls=1)
_NEVER_SENT = Amounts(model_calls=-1)
_TOOL_CALL = Amounts(tool_calls=1)
