"""What was used, as stores keep it: by hour, tenant, agent and model, added up in the commits of the events themselves.

Every event that uses something says what by itself, but for two things that follow from the events before it: which
model it belongs to, and whether a tool's start is the repetition of an interrupted one. The first is a column of the
task; the second is looked up, since only a task that was taken over can repeat anything.

Knows nothing of where it is kept, and nothing of prices: what a request cost stands in its event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import add
from types import MappingProxyType
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


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which usage: what fits all that is set. Hours count from 1970; `group_by` are names of `UsageKey`'s parts.

    `bucket_hours` is how much time one row sums up, beginning at its multiples; 0 is all of it.
    """

    tenant: str | None = None
    agent: str = ""
    model: str = ""
    since_hour: int | None = None
    before_hour: int | None = None
    bucket_hours: int = 0
    group_by: frozenset[str] = frozenset()
    limit: int = 5000


class UsageRow(NamedTuple):
    """The sum over one bucket and group. `hour` is the bucket's first, 0 where it is all of the time; what is not
    grouped by is "".
    """

    hour: int
    tenant: str
    agent: str
    model: str
    amounts: Amounts


def used_by(event: TaskEvent, arm: str) -> Used | None:
    """What an event used; None for nothing. `arm` is the event's."""
    handler = _HANDLERS.get(arm)
    return handler(event, event.create_time.seconds // HOUR_S) if handler else None


def _submitted(event: TaskEvent, hour: int) -> Used:
    return Used(hour, event.submitted.model, _TASK)


def _model_started(event: TaskEvent, hour: int) -> Used:
    return Used(hour, event.model_started.model, _MODEL_CALL)


def _model_failed(event: TaskEvent, hour: int) -> Used | None:
    failed = event.model_failed
    return _of_request(failed.usage, hour) if failed.HasField("usage") else Used(hour, "", _NEVER_SENT)


def _model_replied(event: TaskEvent, hour: int) -> Used | None:
    return _of_request(event.model_replied.usage, hour)


def _tool_started(event: TaskEvent, hour: int) -> Used:
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

_HANDLERS: Mapping[str, Callable[[TaskEvent, int], Used | None]] = MappingProxyType(
    {
        "submitted": _submitted,
        "model_started": _model_started,
        "model_failed": _model_failed,
        "model_replied": _model_replied,
        "tool_started": _tool_started,
    }
)


def is_started(call_id: str, payloads: Iterable[bytes]) -> bool:
    """Whether one of the stored events is a start of this tool call."""
    return any(TaskEvent.FromString(payload).tool_started.tool_call_id == call_id for payload in payloads)


class Tally:
    """Adds up what events used."""

    def __init__(self) -> None:
        self._sums: dict[UsageKey, Amounts | list[int]] = {}

    def add(self, key: UsageKey, amounts: Amounts) -> None:
        """Add to one sum."""
        sums = self._sums.get(key)
        self._sums[key] = amounts if sums is None else list(map(add, sums, amounts))

    def add_events(
        self, used: Iterable[Used], *, tenant: str, agent: str, asked: str, is_repeated: Callable[[str], bool]
    ) -> str:
        """Add what events of one task used; the model that it asks afterwards, `asked` being that before.

        `is_repeated` says of a tool call's id whether the task had started it before these events.
        """
        started: set[str] = set()
        for one in used:
            asked = one.asks or asked
            if one.may_repeat and (one.call_id in started or is_repeated(one.call_id)):
                continue
            if one.call_id:
                started.add(one.call_id)
            self.add(UsageKey(tenant, one.hour, agent, asked), one.amounts)
        return asked

    def rows(self) -> list[tuple[UsageKey, Amounts]]:
        """The sums, by tenant, hour, agent and model."""
        return [(key, Amounts(*self._sums[key])) for key in sorted(self._sums)]


def summed(sums: Iterable[tuple[UsageKey, Amounts]], query: UsageQuery) -> list[UsageRow]:
    """The rows that a query asks for, out of all sums there are: for adapters that have no query language."""
    found = Tally()
    for key, amounts in sums:
        if _fits(key, query):
            found.add(_group(key, query), amounts)
    rows = [UsageRow(key.hour, key.tenant, key.agent, key.model, amounts) for key, amounts in found.rows()]
    return sorted(rows)[: query.limit]


def _fits(key: UsageKey, query: UsageQuery) -> bool:
    return (
        query.tenant in (None, key.tenant)
        and query.agent in ("", key.agent)
        and query.model in ("", key.model)
        and (query.since_hour is None or key.hour >= query.since_hour)
        and (query.before_hour is None or key.hour < query.before_hour)
    )


def _group(key: UsageKey, query: UsageQuery) -> UsageKey:
    by = query.group_by
    return UsageKey(
        key.tenant if "tenant" in by else "",
        key.hour - key.hour % query.bucket_hours if query.bucket_hours else 0,
        key.agent if "agent" in by else "",
        key.model if "model" in by else "",
    )
