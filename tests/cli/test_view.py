"""How events are shown, where a model's text turns out to be void."""

from __future__ import annotations

import pytest

from agent_service.cli.view import LineView, LiveView, View
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import (
    AttemptStarted,
    ModelFailed,
    ModelReplied,
    ModelStarted,
    TaskCompleted,
    TaskEvent,
    TextDelta,
)
from agent_service.v1.task_pb2 import Failure

CUT = Failure(reason=reasons.ERROR_REASON_LLM_UNAVAILABLE, message="the connection broke", retryable=True)


def asked(model: str, number: int) -> TaskEvent:
    return TaskEvent(attempt=1, model_started=ModelStarted(turn=1, try_number=number, model=model))


def wrote(text: str, number: int, *, offset: int = 0, attempt: int = 1) -> TaskEvent:
    delta = TextDelta(turn=1, try_number=number, offset=offset, text=text)
    return TaskEvent(attempt=attempt, text_delta=delta)


def cut(number: int) -> TaskEvent:
    return TaskEvent(attempt=1, model_failed=ModelFailed(turn=1, try_number=number, failure=CUT))


def replied(text: str) -> TaskEvent:
    return TaskEvent(attempt=1, model_replied=ModelReplied(turn=1, text=text))


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
