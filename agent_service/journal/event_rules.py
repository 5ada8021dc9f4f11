"""The meaning of each kind of event to a journal: the only table, by the name of the event's field in the oneof (arm).

The effect of an event on the task that callers see is defined by the fold (`engine/task/state.py`). This module defines
the allowed transitions, and everything that stores, watchers and the engine must agree on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from agent_service.journal import usage
from agent_service.journal.usage import Used
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import (
    TASK_STATE_CANCELED,
    TASK_STATE_COMPLETED,
    TASK_STATE_FAILED,
    TASK_STATE_INPUT_REQUIRED,
    TASK_STATE_REJECTED,
    TASK_STATE_SUBMITTED,
    TASK_STATE_UNSPECIFIED,
    TASK_STATE_WORKING,
    TaskState,
)

# Far above the limits of tools and models. An event that a store cannot accept would fail the whole commit.
EVENT_BYTES_MAX = 64 * 1024 * 1024

TERMINAL = frozenset({TASK_STATE_COMPLETED, TASK_STATE_FAILED, TASK_STATE_CANCELED, TASK_STATE_REJECTED})

# The allowed transitions; terminal states have none. UNSPECIFIED stands for an event that changes no state.
NEXT_STATES: Mapping[TaskState.ValueType, frozenset[TaskState.ValueType]] = MappingProxyType(
    {
        TASK_STATE_UNSPECIFIED: frozenset({TASK_STATE_SUBMITTED}),
        TASK_STATE_SUBMITTED: frozenset(
            {
                TASK_STATE_UNSPECIFIED,
                TASK_STATE_WORKING,
                TASK_STATE_FAILED,
                TASK_STATE_CANCELED,
                TASK_STATE_REJECTED,
            }
        ),
        TASK_STATE_WORKING: frozenset(
            {
                TASK_STATE_UNSPECIFIED,
                TASK_STATE_WORKING,
                TASK_STATE_INPUT_REQUIRED,
                TASK_STATE_COMPLETED,
                TASK_STATE_FAILED,
                TASK_STATE_CANCELED,
            }
        ),
        TASK_STATE_INPUT_REQUIRED: frozenset(
            {TASK_STATE_UNSPECIFIED, TASK_STATE_WORKING, TASK_STATE_FAILED, TASK_STATE_CANCELED}
        ),
        **{state: frozenset() for state in TERMINAL},
    }
)


class Duty(NamedTuple):
    """The owner of a task after an event ("": no worker), and when it becomes overdue, in µs since 1970 (0: never;
    None: unchanged).
    """

    owner: str
    due_us: int | None


class EventRule(NamedTuple):
    """The meaning of the events of one arm.

    `state` is the resulting state; UNSPECIFIED: unchanged. With `state_if`, only events for which it returns True lead
    to that state. `duty` returns the owner and due time; None: unchanged. `used` returns the usage, given the event and
    its hour; None: nothing. A transient event is only sent live and never journaled.
    """

    state: TaskState.ValueType = TASK_STATE_UNSPECIFIED
    state_if: Callable[[TaskEvent], bool] | None = None
    duty: Callable[[TaskEvent], Duty | None] | None = None
    used: Callable[[TaskEvent, int], Used | None] | None = None
    is_transient: bool = False


def _released(_: TaskEvent) -> Duty:
    return Duty("", None)


def _never_due(_: TaskEvent) -> Duty:
    return Duty("", 0)


def _due_at_deadline(event: TaskEvent) -> Duty:
    return Duty("", event.submitted.deadline.ToMicroseconds())


def _due_at_first_expiry(event: TaskEvent) -> Duty:
    return Duty("", min(each.expire_time.ToMicroseconds() for each in event.input_required.inputs))


def _owned(event: TaskEvent) -> Duty:
    return Duty(event.attempt_started.worker, None)


def _answered(event: TaskEvent) -> Duty | None:
    return Duty("", 0) if event.input_received.resumes else None


def _resumes(event: TaskEvent) -> bool:
    return event.input_received.resumes


RULES: Mapping[str, EventRule] = MappingProxyType(
    {
        "submitted": EventRule(TASK_STATE_SUBMITTED, duty=_due_at_deadline, used=usage.of_submitted),
        "attempt_started": EventRule(TASK_STATE_WORKING, duty=_owned),
        "attempt_ended": EventRule(duty=_released),
        "model_started": EventRule(used=usage.of_model_started),
        "model_failed": EventRule(used=usage.of_model_failed),
        "model_replied": EventRule(used=usage.of_model_replied),
        "tool_started": EventRule(used=usage.of_tool_started),
        "tool_finished": EventRule(),
        "input_required": EventRule(TASK_STATE_INPUT_REQUIRED, duty=_due_at_first_expiry),
        "input_received": EventRule(TASK_STATE_WORKING, state_if=_resumes, duty=_answered),
        "cancel_requested": EventRule(),
        "completed": EventRule(TASK_STATE_COMPLETED, duty=_never_due),
        "failed": EventRule(TASK_STATE_FAILED, duty=_never_due),
        "canceled": EventRule(TASK_STATE_CANCELED, duty=_never_due),
        "rejected": EventRule(TASK_STATE_REJECTED, duty=_never_due),
        "text_delta": EventRule(is_transient=True),
        "reasoning_delta": EventRule(is_transient=True),
        "waiting": EventRule(is_transient=True),
        "heartbeat": EventRule(is_transient=True),
    }
)

TRANSIENT = frozenset(arm for arm, rule in RULES.items() if rule.is_transient)


def state_after(event: TaskEvent) -> TaskState.ValueType:
    """Return the state that an event leads to; UNSPECIFIED if it changes no state."""
    rule = RULES.get(event.WhichOneof("event") or "")
    return led_to(rule, event) if rule is not None else TASK_STATE_UNSPECIFIED


def led_to(rule: EventRule, event: TaskEvent) -> TaskState.ValueType:
    """Return the state that an event of this rule leads to; UNSPECIFIED if it changes no state.

    Without `state_if` the result is always `rule.state`: code that runs for each event can use that directly.
    """
    return rule.state if rule.state_if is None or rule.state_if(event) else TASK_STATE_UNSPECIFIED


def is_terminal(event: TaskEvent) -> bool:
    """Return whether the event ends its task."""
    return state_after(event) in TERMINAL


def is_journaled(event: TaskEvent) -> bool:
    """Return whether the event is kept in the journal; otherwise it is only live. An event that this version does not
    know was journaled by a newer one.
    """
    return event.WhichOneof("event") not in TRANSIENT
