"""The fold: a task is what its events make it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.engine.outcomes import canceled, failed, rejected, with_usage
from agent_service.engine.task.state import FoldedTask, ForbiddenTransitionError
from agent_service.engine.task.tool_results import result_text
from agent_service.journal.event_rules import NEXT_STATES, RULES, TERMINAL
from agent_service.llm.base import Role
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import (
    AttemptStarted,
    CancelRequested,
    Heartbeat,
    ModelReplied,
    ModelStarted,
    TaskCanceled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskSubmitted,
    TextDelta,
    ToolFinished,
    ToolStarted,
)
from agent_service.v1.task_pb2 import (
    CANCEL_CAUSE_DISCONNECT,
    TASK_KIND_AGENT,
    TASK_STATE_COMPLETED,
    TASK_STATE_WORKING,
    Failure,
    TaskState,
    Usage,
)
from agent_service.v1.tool_pb2 import ToolCall


def numbered(*events: TaskEvent) -> list[TaskEvent]:
    for sequence, event in enumerate(events, start=1):
        event.task_id, event.sequence, event.attempt = "t", sequence, min(sequence - 1, 1)
    return list(events)


def two_tools_journal() -> list[TaskEvent]:
    calls = [ToolCall(id="a", name="echo", arguments_json="{}"), ToolCall(id="b", name="echo", arguments_json="{}")]
    return numbered(
        TaskEvent(submitted=TaskSubmitted(tenant="t", kind=TASK_KIND_AGENT, task="go", instructions="be brief")),
        TaskEvent(attempt_started=AttemptStarted()),
        TaskEvent(model_started=ModelStarted(turn=1, try_number=1)),
        TaskEvent(model_replied=ModelReplied(turn=1, tool_calls=calls, usage=Usage(input_tokens=5, output_tokens=2))),
        TaskEvent(tool_started=ToolStarted(tool_call_id="a", name="echo")),
        TaskEvent(tool_started=ToolStarted(tool_call_id="b", name="echo")),
        TaskEvent(tool_finished=ToolFinished(tool_call_id="b", output_json="2")),
        TaskEvent(tool_finished=ToolFinished(tool_call_id="a", output_json='"one"')),
        TaskEvent(model_started=ModelStarted(turn=2, try_number=1)),
        TaskEvent(model_replied=ModelReplied(turn=2, text="done", usage=Usage(input_tokens=7, output_tokens=1))),
        TaskEvent(completed=TaskCompleted(output="done")),
    )


def test_a_whole_journal_folds_to_the_task_with_its_answer_and_usage() -> None:
    task = FoldedTask.fold(two_tools_journal()).task
    assert task.state == TASK_STATE_COMPLETED
    assert task.output == "done"
    assert task.last_sequence == 11
    assert (task.usage.input_tokens, task.usage.output_tokens) == (12, 3)
    assert (task.usage.model_calls, task.usage.tool_calls) == (2, 2)


def test_results_that_arrive_out_of_order_are_told_in_the_models_order() -> None:
    messages = FoldedTask.fold(two_tools_journal()).agent_state.messages
    told = [(message.role, message.tool_call_id, message.text) for message in messages if message.role is Role.TOOL]
    assert told == [(Role.TOOL, "a", "one"), (Role.TOOL, "b", "2")]


def test_results_join_the_conversation_only_when_the_last_of_the_turn_is_in() -> None:
    folded = FoldedTask.fold(two_tools_journal()[:7])
    assert [call.id for call in folded.agent_state.calls_open] == ["a"]
    assert folded.agent_state.messages[-1].role is Role.ASSISTANT


@pytest.mark.parametrize("end", ["failed", "canceled", "rejected", "completed"])
def test_a_task_told_by_its_first_and_last_events_is_the_fold_of_them_all(end: str) -> None:
    events = two_tools_journal()[:-1] if end == "completed" else two_tools_journal()[:1]
    ends = {
        "failed": failed(Failure(reason=reasons.ERROR_REASON_DEADLINE_EXCEEDED)),
        "canceled": canceled(CANCEL_CAUSE_DISCONNECT),
        "rejected": rejected(Failure(reason=reasons.ERROR_REASON_CONFIG_CHANGED)),
        "completed": TaskEvent(completed=TaskCompleted(output="done")),
    }
    folded = FoldedTask.fold(events)
    last = with_usage(ends[end], folded)
    last.task_id, last.sequence, last.attempt = "t", len(events) + 1, folded.task.attempt
    whole = FoldedTask.fold([*events, last]).task
    assert FoldedTask.of_first_and_last(events[0], last, whole.attempt, with_output=True).task == whole
    assert whole.usage.model_calls == (2 if end == "completed" else 0)


@given(cut=st.integers(min_value=0, max_value=11))
def test_any_prefix_folds_and_folding_the_rest_after_it_equals_folding_all(cut: int) -> None:
    journal = two_tools_journal()
    folded = FoldedTask.fold(journal[:cut])
    for event in journal[cut:]:
        folded.apply(event)
    whole = FoldedTask.fold(journal)
    assert folded.task == whole.task
    assert folded.agent_state.messages == whole.agent_state.messages


def test_unjournaled_events_change_nothing() -> None:
    folded = FoldedTask.fold(two_tools_journal()[:3])
    before = folded.task.SerializeToString(deterministic=True)
    folded.apply(TaskEvent(task_id="t", text_delta=TextDelta(text="x")))
    folded.apply(TaskEvent(task_id="t", heartbeat=Heartbeat()))
    assert folded.task.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    "after_the_end",
    [
        TaskEvent(completed=TaskCompleted()),
        TaskEvent(failed=TaskFailed()),
        TaskEvent(canceled=TaskCanceled()),
        TaskEvent(attempt_started=AttemptStarted()),
        TaskEvent(cancel_requested=CancelRequested(cause=CANCEL_CAUSE_DISCONNECT)),
        TaskEvent(model_started=ModelStarted()),
    ],
)
def test_nothing_follows_a_terminal_event(after_the_end: TaskEvent) -> None:
    folded = FoldedTask.fold(two_tools_journal())
    with pytest.raises(ForbiddenTransitionError):
        folded.apply(after_the_end)


def test_nothing_precedes_the_submission() -> None:
    with pytest.raises(ForbiddenTransitionError):
        FoldedTask().apply(TaskEvent(task_id="t", attempt_started=AttemptStarted()))


def test_a_result_of_a_call_that_is_not_open_is_refused() -> None:
    folded = FoldedTask.fold(two_tools_journal()[:4])
    with pytest.raises(ForbiddenTransitionError):
        folded.apply(TaskEvent(task_id="t", tool_finished=ToolFinished(tool_call_id="z", output_json="1")))


def test_every_state_says_what_may_follow_it_and_terminal_ones_say_nothing() -> None:
    assert set(NEXT_STATES) == set(TaskState.values())
    assert all(not NEXT_STATES[state] for state in TERMINAL)
    assert {rule.state for rule in RULES.values()} <= set(TaskState.values())


def test_a_second_attempt_stays_working() -> None:
    journal = two_tools_journal()[:3]
    again = TaskEvent(task_id="t", sequence=4, attempt=2, attempt_started=AttemptStarted())
    folded = FoldedTask.fold([*journal, again])
    assert folded.task.state == TASK_STATE_WORKING
    assert folded.task.attempt == 2


@pytest.mark.parametrize(
    ("finished", "text"),
    [
        (ToolFinished(output_json='"plain text"'), "plain text"),
        (ToolFinished(output_json='{"a":1}'), '{"a":1}'),
        (ToolFinished(output_json="409.5"), "409.5"),
        (
            ToolFinished(error=Failure(reason=reasons.ERROR_REASON_TOOL_TIMEOUT, message="too slow")),
            '{"error":{"reason":"TOOL_TIMEOUT","message":"too slow"}}',
        ),
    ],
)
def test_a_model_reads_strings_bare_and_everything_else_as_json(finished: ToolFinished, text: str) -> None:
    assert result_text(finished) == text
