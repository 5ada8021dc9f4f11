"""How events are shown on a terminal and in a pipe: live text, replies, what turns out to be void, cut answers."""

from __future__ import annotations

import click
import pytest

from agent_service.cli.remote.view import CUT, AnswerView, LineView, LiveView, View, task_lines, task_row
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import (
    AttemptStarted,
    ModelFailed,
    ModelReplied,
    ModelStarted,
    ReasoningDelta,
    TaskCompleted,
    TaskEvent,
    TextDelta,
    ToolFinished,
)
from agent_service.v1.task_pb2 import (
    TASK_STATE_COMPLETED,
    TASK_STATE_WORKING,
    WAIT_CAUSE_LIMIT,
    WAIT_CAUSE_SESSION,
    Failure,
    Task,
    Waiting,
)
from agent_service.v1.tool_pb2 import ToolCall

BROKEN = Failure(reason=reasons.ERROR_REASON_LLM_UNAVAILABLE, message="the connection broke", retryable=True)


def asked(model: str, number: int) -> TaskEvent:
    return TaskEvent(attempt=1, model_started=ModelStarted(turn=1, try_number=number, model=model))


def wrote(text: str, number: int, *, offset: int = 0, attempt: int = 1) -> TaskEvent:
    delta = TextDelta(turn=1, try_number=number, offset=offset, text=text)
    return TaskEvent(attempt=attempt, text_delta=delta)


def cut(number: int) -> TaskEvent:
    return TaskEvent(attempt=1, model_failed=ModelFailed(turn=1, try_number=number, failure=BROKEN))


def thought(text: str, number: int = 1, *, offset: int = 0) -> TaskEvent:
    delta = ReasoningDelta(turn=1, try_number=number, offset=offset, text=text)
    return TaskEvent(attempt=1, reasoning_delta=delta)


def replied(text: str, *calls: str) -> TaskEvent:
    made = [ToolCall(id=name, name=name, arguments_json="{}") for name in calls]
    return TaskEvent(attempt=1, model_replied=ModelReplied(turn=1, text=text, tool_calls=made))


def completed(output: str, *, is_cut: bool = False) -> TaskEvent:
    return TaskEvent(attempt=1, completed=TaskCompleted(output=output, output_truncated=is_cut))


def shown(view: View, capsys: pytest.CaptureFixture[str], *events: TaskEvent) -> list[str]:
    for event in events:
        view.show(event)
    return capsys.readouterr().out.splitlines()


def test_a_terminal_marks_the_text_of_a_cut_try_as_void_and_shows_the_next_one_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    events = [
        asked("first", 1),
        wrote("I was ", 1),
        wrote("inter", 1, offset=6),
        cut(1),
        asked("second", 2),
        wrote("I was whole", 2),
        replied("I was whole."),
        TaskEvent(attempt=1, completed=TaskCompleted(output="I was whole.")),
    ]
    assert shown(LiveView(), capsys, *events) == [
        "turn 1: asking first",
        "I was inter",
        "[cut off: the text above is void]",
        "turn 1: failed: LLM_UNAVAILABLE: the connection broke",
        "turn 1: asking second instead, try 2",
        "I was whole.",
        "completed · 0 tokens read, 0 written",
    ]


def test_a_reply_whose_live_text_was_missed_is_shown_whole_after_one_that_was_cut(
    capsys: pytest.CaptureFixture[str],
) -> None:
    events = [asked("first", 1), wrote("I was", 1), cut(1), asked("first", 2), replied("I was whole.")]
    assert shown(LiveView(), capsys, *events)[-2:] == ["turn 1: asking again, try 2", "I was whole."]


def test_another_attempt_voids_the_text_too(capsys: pytest.CaptureFixture[str]) -> None:
    events = [
        asked("first", 1),
        wrote("I was", 1),
        TaskEvent(attempt=2, attempt_started=AttemptStarted()),
        wrote("Anew", 1, attempt=2),
        replied("Anew"),
    ]
    assert shown(LiveView(), capsys, *events) == [
        "turn 1: asking first",
        "I was",
        "[cut off: the text above is void]",
        "attempt 2",
        "Anew",
    ]


def test_a_pipe_reads_which_model_was_asked_instead(capsys: pytest.CaptureFixture[str]) -> None:
    events = [asked("first", 1), cut(1), asked("first", 2), cut(2), asked("second", 3), asked("second", 4)]
    assert [line for line in shown(LineView(), capsys, *events) if "asking" in line] == [
        "turn 1: asking first",
        "turn 1: asking again, try 2",
        "turn 1: asking second instead, try 3",
        "turn 1: asking again, try 4",
    ]


def test_a_pipe_has_the_text_of_every_reply_whole_and_once_and_the_answer_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    events = [
        asked("first", 1),
        thought("Hm."),
        wrote("Let ", 1),
        wrote("me see.", 1, offset=4),
        replied("Let me see.", "look"),
        TaskEvent(attempt=1, tool_finished=ToolFinished(tool_call_id="look", output_json="5")),
        asked("first", 1),
        wrote("It is ", 1),
        wrote("five.\nIndeed.", 1, offset=6),
        replied("It is five.\nIndeed."),
        completed("It is five.\nIndeed."),
    ]
    assert shown(LineView(), capsys, *events) == [
        "turn 1: asking first",
        "Let me see.",
        "  → look {}",
        "  ← look: 5 (0.0 ms)",
        "turn 1: asking first",
        "completed · 0 tokens read, 0 written",
        "It is five.",
        "Indeed.",
    ]


def test_a_pipe_has_what_the_model_said_where_it_is_not_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    events = [
        replied("no JSON"),
        asked("first", 1),
        replied('Here: {"a": 1}'),
        completed('{"a": 1}'),
    ]
    assert shown(LineView(), capsys, *events) == [
        "no JSON",
        "turn 1: asking first",
        "completed · 0 tokens read, 0 written",
        '{"a": 1}',
    ]
    assert shown(LineView(), capsys, replied("Draft."), completed("")) == [
        "Draft.",
        "completed · 0 tokens read, 0 written",
        "",
    ]


def test_a_terminal_shows_an_answer_that_no_model_has_written(capsys: pytest.CaptureFixture[str]) -> None:
    events = [wrote("Draft.", 1), replied("Draft."), completed("Final.")]
    assert shown(LiveView(), capsys, *events) == ["Draft.", "completed · 0 tokens read, 0 written", "Final."]


def test_a_terminal_shows_reasoning_dimmed_and_apart_from_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    events = [
        thought("Two and "),
        thought("three.", offset=8),
        wrote("It is ", 1),
        wrote("five.", 1, offset=6),
        replied("It is five."),
    ]
    with click.Context(click.Command("run"), color=True):
        lines = shown(LiveView(), capsys, *events)
    assert lines == ["\x1b[2mTwo and \x1b[0m\x1b[2mthree.\x1b[0m", "It is five."]


def test_reasoning_in_the_middle_of_the_text_stands_on_lines_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    events = [wrote("It is ", 1), thought("hm"), wrote("five.", 1, offset=6), replied("It is five.")]
    assert shown(LiveView(), capsys, *events) == ["It is ", "hm", "five."]


def test_a_step_after_reasoning_begins_on_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    events = [asked("first", 1), thought("hm"), cut(1), asked("first", 2), thought("oh", 2), replied("", "look")]
    assert shown(LiveView(), capsys, *events) == [
        "turn 1: asking first",
        "hm",
        "turn 1: failed: LLM_UNAVAILABLE: the connection broke",
        "turn 1: asking again, try 2",
        "oh",
        "  → look {}",
    ]


@pytest.mark.parametrize("view", [LineView, LiveView])
def test_an_answer_that_was_cut_is_told_to_be(view: type[View], capsys: pytest.CaptureFixture[str]) -> None:
    assert CUT in shown(view(), capsys, replied("It is fi"), completed("It is fi", is_cut=True))
    assert CUT not in shown(view(), capsys, replied("It is five."), completed("It is five."))


def test_the_answer_alone_is_all_of_stdout_where_it_was_cut_too(capsys: pytest.CaptureFixture[str]) -> None:
    AnswerView().show(completed("It is fi", is_cut=True))
    out, err = capsys.readouterr()
    assert (out, err) == ("It is fi\n", f"{CUT}\n")


def test_a_task_that_is_shown_tells_that_its_answer_was_cut() -> None:
    task = Task(id="t", state=TASK_STATE_COMPLETED, output="It is fi", output_truncated=True)
    assert task_lines(task)[-2:] == [CUT, "It is fi"]
    task.output_truncated = False
    assert CUT not in task_lines(task)


def limited() -> Waiting:
    waiting = Waiting(cause=WAIT_CAUSE_LIMIT, rule="default", message="at most 10000 tokens in 60 s")
    waiting.since.FromJsonString("2026-11-30T10:00:00Z")
    waiting.retry_at.FromJsonString("2026-11-30T10:00:33.5Z")
    return waiting


@pytest.mark.parametrize("view", [LineView, LiveView])
def test_a_wait_is_shown_with_its_rule_and_the_time_that_it_takes(
    view: type[View], capsys: pytest.CaptureFixture[str]
) -> None:
    event = TaskEvent(attempt=1, waiting=limited())
    event.create_time.FromJsonString("2026-11-30T10:00:02Z")
    behind = TaskEvent(
        waiting=Waiting(cause=WAIT_CAUSE_SESSION, message="an earlier task of its session has not ended")
    )
    assert shown(view(), capsys, event, behind) == [
        "waiting for rate limit default: at most 10000 tokens in 60 s · next try in 32 s",
        "waiting for its session: an earlier task of its session has not ended",
    ]


def test_a_task_that_waits_says_so_in_its_row_and_in_full() -> None:
    task = Task(id="t1", agent="assistant", state=TASK_STATE_WORKING, waiting=limited())
    assert task_row(task).endswith("assistant  waiting for rate limit default")
    (line,) = [line for line in task_lines(task) if line.startswith("waiting")]
    assert line == (
        "waiting for rate limit default: at most 10000 tokens in 60 s · since 10:00:00 · next try 10:00:33 UTC"
    )
