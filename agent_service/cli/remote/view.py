"""Formats a task's events as text for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import click
from google.protobuf.timestamp_pb2 import Timestamp

from agent_service.client.following import is_journaled
from agent_service.errors import reason_name
from agent_service.text.amounts import money
from agent_service.text.enum_names import short_name
from agent_service.text.times import to_seconds
from agent_service.v1 import task_pb2
from agent_service.v1.task_event_pb2 import CancelRequested, ModelStarted, TaskEvent
from agent_service.v1.task_pb2 import (
    INPUT_KIND_APPROVAL,
    INPUT_KIND_OUTCOME_UNKNOWN,
    INPUT_KIND_QUESTION,
    TASK_KIND_TOOL,
    CancelCause,
    Failure,
    InputKind,
    PendingInput,
    Task,
    TaskState,
    Usage,
    WaitCause,
    Waiting,
)


class View(Protocol):
    """Shows events one by one."""

    def show(self, event: TaskEvent) -> None:
        """Show one."""


CUT = "the answer is cut: the model reached its max_tokens"


class AnswerView:
    """Shows only the answer; errors and pending inputs go to stderr."""

    def show(self, event: TaskEvent) -> None:
        match event.WhichOneof("event"):
            case "completed":
                click.echo(event.completed.output)
                if event.completed.output_truncated:
                    click.echo(CUT, err=True)
            case "failed":
                click.echo(_failure(event.failed.failure), err=True)
            case "rejected":
                click.echo(_failure(event.rejected.failure), err=True)
            case "canceled":
                click.echo("canceled", err=True)
            case "input_required":
                for pending in event.input_required.inputs:
                    click.echo("\n".join(_input_lines(event.task_id, pending)), err=True)


class LineView:
    """Shows a plain line for each step, the whole text of each reply, and the answer last. Does not show live text.

    Keeps the names of the running calls and of the model called last. The text of a reply without tool calls is held
    until the next event: if the task completes with it, it is shown once, as the answer.
    """

    def __init__(self) -> None:
        self._calls: dict[str, str] = {}
        self._model = ""
        self._said = ""
        self._usage = Usage()

    def show(self, event: TaskEvent) -> None:
        arm = event.WhichOneof("event")
        if arm == "model_replied":
            self._usage.input_tokens += event.model_replied.usage.input_tokens
            self._usage.output_tokens += event.model_replied.usage.output_tokens
        if is_journaled(event):
            self._show_said(event)
        for line in self._lines(arm, event):
            self._write(line)
        if arm == "completed":
            self._show_answer(event.completed.output)

    def _show_said(self, event: TaskEvent) -> None:
        answer, reply = event.completed.output, event.model_replied
        if self._said and not (answer and answer in self._said):
            click.echo(self._said)
        self._said = reply.text
        if reply.text and reply.tool_calls:
            click.echo(reply.text)
            self._said = ""

    def _show_answer(self, answer: str) -> None:
        click.echo(answer)

    def _write(self, line: str) -> None:
        click.echo(line)

    def _lines(self, arm: str | None, event: TaskEvent) -> list[str]:
        match arm:
            case "submitted":
                return [f"task {event.task_id} · agent {event.submitted.agent} · model {event.submitted.model}"]
            case "attempt_started" if event.attempt > 1:
                return [f"attempt {event.attempt}"]
            case "model_started":
                return [self._asking_line(event.model_started)]
            case "model_failed":
                return [f"turn {event.model_failed.turn}: {_failure(event.model_failed.failure)}"]
            case "model_replied":
                return [self._call_line(call.id, call.name, call.arguments_json) for call in _calls(event)]
            case "tool_finished":
                return [self._result_line(event)]
            case "waiting":
                return [_waiting_line(event)]
            case "input_required":
                return [
                    line for pending in event.input_required.inputs for line in _input_lines(event.task_id, pending)
                ]
            case "input_received":
                received = event.input_received
                answer = (received.answer.WhichOneof("answer") or "").replace("_", " ")
                return [f"{received.input_id} answered by {received.answered_by}: {answer}"]
            case "cancel_requested":
                return [f"cancel requested: {_cause(event.cancel_requested)}"]
            case "completed" | "failed" | "canceled" | "rejected":
                return self._end_lines(arm, event)
            case _:
                return []

    def _asking_line(self, started: ModelStarted) -> str:
        before, self._model = self._model, started.model
        if started.try_number == 1:
            return f"turn {started.turn}: asking {started.model}"
        whom = "again" if before in ("", started.model) else f"{started.model} instead"
        return f"turn {started.turn}: asking {whom}, try {started.try_number}"

    def _call_line(self, call_id: str, name: str, arguments: str) -> str:
        self._calls[call_id] = name
        return f"  → {name} {_short(arguments)}"

    def _result_line(self, event: TaskEvent) -> str:
        finished = event.tool_finished
        name = self._calls.get(finished.tool_call_id, finished.tool_call_id)
        if finished.HasField("error"):
            return f"  ✗ {name}: {_failure(finished.error)}"
        seconds = to_seconds(finished.duration)
        return f"  ← {name}: {_short(_plain(finished.output_json))} ({seconds * 1000:.1f} ms)"

    def _end_lines(self, arm: str, event: TaskEvent) -> list[str]:
        tokens = f"{self._usage.input_tokens} tokens read, {self._usage.output_tokens} written"
        match arm:
            case "completed":
                return [f"completed · {tokens}", *([CUT] if event.completed.output_truncated else [])]
            case "failed":
                return [f"{_failure(event.failed.failure)} · {tokens}"]
            case "rejected":
                return [_failure(event.rejected.failure)]
            case _:
                return [f"canceled · {tokens}"]


class LiveView(LineView):
    """For a terminal: shows the model's text live, and the steps and the reasoning dimmed in between."""

    def __init__(self) -> None:
        super().__init__()
        self._shown = ""
        self._is_reasoning = False
        self._source = (0, 0)

    def show(self, event: TaskEvent) -> None:
        match event.WhichOneof("event"):
            case "text_delta" | "reasoning_delta":
                self._show_live(event)
                return
            case "heartbeat":
                return
            case "waiting" if self._shown:
                click.echo()
            case "model_failed" | "attempt_started":
                self._void()
        self._end_reasoning()
        super().show(event)

    def _show_said(self, event: TaskEvent) -> None:
        if text := event.model_replied.text:
            # Live text is best effort: show now the part of the reply that is missing.
            click.echo(text[len(self._shown) :] if text.startswith(self._shown) else f"\n{text}")
            self._shown = ""
        if event.HasField("model_replied"):
            self._said = text

    def _show_answer(self, answer: str) -> None:
        # Most answers were already shown live.
        if answer not in self._said:
            click.echo(answer)

    def _show_live(self, event: TaskEvent) -> None:
        is_reasoning = event.HasField("reasoning_delta")
        delta = event.reasoning_delta if is_reasoning else event.text_delta
        source = (event.attempt, delta.try_number)
        if source != self._source:
            self._void()
        self._source = source
        if is_reasoning:
            if self._shown and not self._is_reasoning:
                click.echo()
            click.secho(delta.text, dim=True, nl=False)
            self._is_reasoning = True
        elif delta.offset == len(self._shown.encode()):
            self._end_reasoning()
            click.echo(delta.text, nl=False)
            self._shown += delta.text

    def _end_reasoning(self) -> None:
        """Begin a new line after the reasoning."""
        if self._is_reasoning:
            click.echo()
            self._is_reasoning = False

    def _void(self) -> None:
        """Mark the text of a failed try as void; it stays on the screen."""
        self._end_reasoning()
        if self._shown:
            click.secho("\n[cut off: the text above is void]", dim=True)
            self._shown = ""

    def _write(self, line: str) -> None:
        click.secho(line, dim=True)


# The options of `tasks resume` that answer each kind of input. Each is shown as a separate command: one line with all
# of them between bars, pasted into a shell, would give the first answer.
ANSWERS: Mapping[InputKind.ValueType, Sequence[str]] = MappingProxyType(
    {
        INPUT_KIND_APPROVAL: ("--approve", "--deny COMMENT"),
        INPUT_KIND_OUTCOME_UNKNOWN: ("--run-again", "--result JSON", "--failed TEXT"),
        INPUT_KIND_QUESTION: ("--reply TEXT",),
    }
)


def task_row(task: Task) -> str:
    """Return a task as one line."""
    name = f"{task.agent} tool" if task.kind == TASK_KIND_TOOL else task.agent
    session = f"  session {task.session_id}" if task.session_id else ""
    failure = f"  {reason_name(task.failure.reason)}" if task.failure.reason else ""
    created = task.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")
    waits = f"  {_waits_for(task.waiting)}" if _stands_still(task) else ""
    return f"{task.id}  {created}  {_state(task):<14}  {name}{session}{failure}{waits}"


def task_lines(task: Task) -> list[str]:
    """Return a task in full."""
    used = task.usage
    cost = f" · cost {money(used.cost_nanos, decimals_min=2)}" if used.HasField("cost_nanos") else ""
    lines = [
        task_row(task),
        f"attempts {task.attempt} · events {task.last_sequence} · model calls {used.model_calls}"
        f" · tool calls {used.tool_calls} · {used.input_tokens} tokens read, {used.output_tokens} written{cost}",
    ]
    if _stands_still(task):
        waiting = task.waiting
        retry = f" · next try {_clock(waiting.retry_at)}" if waiting.HasField("retry_at") else ""
        lines.append(f"{_waits_for(waiting)}: {waiting.message} · since {_clock(waiting.since)}{retry} UTC")
    lines += [f"label {key}={value}" for key, value in sorted(task.labels.items())]
    lines += [f"task: {task.task}"] if task.task else []
    lines += [_failure(task.failure)] if task.failure.reason else []
    lines += [CUT] if task.output_truncated else []
    return [*lines, task.output] if task.output else lines


def answer_hints(task: Task) -> list[str]:
    """Return the pending inputs of a task, with the commands that answer them."""
    return [line for pending in task.pending_inputs for line in _input_lines(task.id, pending)]


def _input_lines(task_id: str, asked: PendingInput) -> list[str]:
    call = f"{asked.tool_call.name} {_short(asked.tool_call.arguments_json)}"
    match asked.kind:
        case task_pb2.INPUT_KIND_APPROVAL:
            text = f"may it run? → {call}"
        case task_pb2.INPUT_KIND_OUTCOME_UNKNOWN:
            text = f"interrupted; it is unknown whether it took effect: → {call}"
        case _:
            text = asked.question
    command = f"  agent-service tasks resume {task_id} {asked.input_id}"
    return [f"waiting for {asked.input_id}: {text}", *(f"{command} {answer}" for answer in ANSWERS.get(asked.kind, ()))]


WAITS: Mapping[WaitCause.ValueType, str] = MappingProxyType(
    {
        task_pb2.WAIT_CAUSE_LIMIT: "rate limit",
        task_pb2.WAIT_CAUSE_SESSION: "its session",
        task_pb2.WAIT_CAUSE_SLOT: "a place to run",
        task_pb2.WAIT_CAUSE_INPUT: "an answer",
        task_pb2.WAIT_CAUSE_STORE: "the store",
    }
)


def _stands_still(task: Task) -> bool:
    """Return whether the task waits for something else than an input."""
    return task.HasField("waiting") and task.waiting.cause != task_pb2.WAIT_CAUSE_INPUT


def _waits_for(waiting: Waiting) -> str:
    what = WAITS.get(waiting.cause, "a cause unknown to this version")
    return f"waiting for {what} {waiting.rule}" if waiting.rule else f"waiting for {what}"


def _waiting_line(event: TaskEvent) -> str:
    """Return the cause of a wait, and its minimum duration by the server's clock."""
    waiting = event.waiting
    left_s = to_seconds(waiting.retry_at) - to_seconds(event.create_time)
    retry = f" · next try in {math.ceil(left_s)} s" if left_s > 0 else ""
    return f"{_waits_for(waiting)}: {waiting.message}{retry}"


def _clock(at: Timestamp) -> str:
    return at.ToDatetime().strftime("%H:%M:%S")


def _state(task: Task) -> str:
    return short_name(TaskState, task.state)


def _calls(event: TaskEvent) -> list[Any]:
    return list(event.model_replied.tool_calls)


def _failure(failure: Failure) -> str:
    return f"failed: {reason_name(failure.reason)}: {failure.message}"


def _cause(requested: CancelRequested) -> str:
    return short_name(CancelCause, requested.cause).lower()


def _plain(text: str) -> str:
    value = json.loads(text)
    return value if isinstance(value, str) else text


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:199]}…"
