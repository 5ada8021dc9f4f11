"""The usage of events, by hour, tenant, agent and model.

An event contains its own usage, except for two facts that depend on earlier events: the model that it belongs to, and
whether the start of a tool call repeats an interrupted one. The first is a column of the task; the second is looked up,
because only a task that was taken over can repeat a call.

Independent of prices: the cost of a request is in its event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import Usage

HOUR_S = 3600


class Amounts(NamedTuple):
    """The counted amounts. Stores have columns with these names, in this order; see `UsageRow` in the contract."""

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
    """The key of a sum. `hour` counts from 1970, UTC."""

    tenant: str
    hour: int
    agent: str
    model: str


class Used(NamedTuple):
    """The usage of one event. `model` is the task's model from then on; "": unchanged. `call_id` is the tool call that
    starts; `may_repeat` is True after the first attempt, when it may repeat an interrupted call.
    """

    hour: int
    model: str
    amounts: Amounts
    call_id: str = ""
    may_repeat: bool = False


class Counted(NamedTuple):
    """The additions of some events of one task to the sums, and the task's model after them."""

    model: str
    sums: list[tuple[UsageKey, Amounts]]


def count(used: Iterable[Used], *, tenant: str, agent: str, model: str, is_repeated: Callable[[str], bool]) -> Counted:
    """Return the additions of events of one task to the sums. `model` is the task's model before them.

    `is_repeated` returns whether the task had started a tool call, given its id, before these events.
    """
    sums: list[tuple[UsageKey, Amounts]] = []
    started: set[str] = set()
    for use in used:
        model = use.model or model
        if use.may_repeat and (use.call_id in started or is_repeated(use.call_id)):
            continue
        if use.call_id:
            started.add(use.call_id)
        sums.append((UsageKey(tenant, use.hour, agent, model), use.amounts))
    return Counted(model, sums)


def of_submitted(event: TaskEvent, hour: int) -> Used:
    """Return the usage of a new task: one task."""
    return Used(hour, event.submitted.model, _TASK)


def of_model_started(event: TaskEvent, hour: int) -> Used:
    """Return the usage of a started request: one model call."""
    return Used(hour, event.model_started.model, _MODEL_CALL)


def of_model_failed(event: TaskEvent, hour: int) -> Used | None:
    """Return the usage of a failed request; for one that was never sent, minus one model call."""
    failed = event.model_failed
    return _of_request(failed.usage, hour) if failed.HasField("usage") else Used(hour, "", _NEVER_SENT)


def of_model_replied(event: TaskEvent, hour: int) -> Used | None:
    """Return the usage of a request with a reply."""
    return _of_request(event.model_replied.usage, hour)


def of_tool_started(event: TaskEvent, hour: int) -> Used:
    """Return the usage of a started tool: one tool call."""
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
