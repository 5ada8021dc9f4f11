"""The table of what events mean covers the contract, and agrees with what ships without it."""

from __future__ import annotations

import pytest

from agent_service.client import following
from agent_service.journal.event_rules import NEXT_STATES, RULES, TERMINAL, is_journaled, is_terminal
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import (
    TASK_STATE_COMPLETED,
    TASK_STATE_SUBMITTED,
    TASK_STATE_UNSPECIFIED,
    TASK_STATE_WORKING,
    TaskState,
)

ARMS = sorted(field.name for field in TaskEvent.DESCRIPTOR.oneofs_by_name["event"].fields)


def event(arm: str) -> TaskEvent:
    made = TaskEvent()
    getattr(made, arm).SetInParent()
    return made


def test_every_event_of_the_contract_has_a_rule() -> None:
    assert sorted(RULES) == ARMS


@pytest.mark.parametrize("arm", ARMS)
def test_the_client_and_the_table_agree_on_what_is_journaled(arm: str) -> None:
    assert is_journaled(event(arm)) == following.is_journaled(event(arm))


def test_an_event_of_a_newer_version_is_journaled_and_changes_no_state() -> None:
    assert is_journaled(TaskEvent())
    assert not is_terminal(TaskEvent())


@pytest.mark.parametrize("arm", ARMS)
def test_an_event_that_ends_a_task_leaves_it_never_due(arm: str) -> None:
    rule = RULES[arm]
    if rule.state in TERMINAL:
        assert rule.duty is not None
        assert rule.duty(event(arm)) == ("", 0)


@pytest.mark.parametrize("state", TaskState.values())
def test_an_event_that_changes_no_state_comes_only_while_the_task_goes_on(state: TaskState.ValueType) -> None:
    is_going_on = state not in TERMINAL and state != TASK_STATE_UNSPECIFIED
    assert (TASK_STATE_UNSPECIFIED in NEXT_STATES[state]) == is_going_on
    assert set(NEXT_STATES) == set(TaskState.values())


def test_a_task_is_submitted_once_and_completes_after_it_began() -> None:
    assert TASK_STATE_SUBMITTED in NEXT_STATES[TASK_STATE_UNSPECIFIED]
    assert TASK_STATE_SUBMITTED not in NEXT_STATES[TASK_STATE_SUBMITTED]
    assert TASK_STATE_COMPLETED not in NEXT_STATES[TASK_STATE_SUBMITTED]
    assert TASK_STATE_COMPLETED in NEXT_STATES[TASK_STATE_WORKING]
