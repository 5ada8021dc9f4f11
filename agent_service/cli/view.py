"""How a task's events are shown to people."""

from __future__ import annotations

import json
from typing import Any, Protocol

import click

from agent_service.errors import reason_name
from agent_service.v1.task_event_pb2 import CancelRequested, TaskEvent
from agent_service.v1.task_pb2 import CancelCause, Failure, Usage


class View(Protocol):
    """Shows events, one after the other."""

    def show(self, event: TaskEvent) -> None:
        """Show one."""


class AnswerView:
    """The answer alone; what went wrong goes to stderr."""

    def show(self, event: TaskEvent) -> None:
        match event.WhichOneof("event"):
            case "completed":
                click.echo(event.completed.output)
            case "failed":
                click.echo(_failure(event.failed.failure), err=True)
            case "rejected":
                click.echo(_failure(event.rejected.failure), err=True)
            case "canceled":
                click.echo("canceled", err=True)


class LineView:
    """A plain line for each step, the answer last. Remembers the names of the calls that are under way."""

    def __init__(self) -> None:
        self._calls: dict[str, str] = {}
        self._usage = Usage()

    def show(self, event: TaskEvent) -> None:
        arm = event.WhichOneof("event")
        if arm == "model_replied":
            self._usage.input_tokens += event.model_replied.usage.input_tokens
            self._usage.output_tokens += event.model_replied.usage.output_tokens
        for line in self._lines(arm, event):
            self._write(line)

    def _write(self, line: str) -> None:
        click.echo(line)

    def _lines(self, arm: str | None, event: TaskEvent) -> list[str]:
        match arm:
            case "submitted":
                return [f"task {event.task_id} · agent {event.submitted.agent} · model {event.submitted.model}"]
            case "attempt_started" if event.attempt > 1:
                return [f"attempt {event.attempt}"]
            case "model_started" if event.model_started.try_number == 1:
                return [f"turn {event.model_started.turn}: asking {event.model_started.model}"]
            case "model_started":
                return [f"turn {event.model_started.turn}: asking again, try {event.model_started.try_number}"]
            case "model_failed":
                return [f"turn {event.model_failed.turn}: {_failure(event.model_failed.failure)}"]
            case "text_delta":
                return [f"  … {_short(event.text_delta.text)}"]
            case "model_replied":
                return [self._call_line(call.id, call.name, call.arguments_json) for call in _calls(event)]
            case "tool_finished":
                return [self._result_line(event)]
            case "cancel_requested":
                return [f"cancel requested: {_cause(event.cancel_requested)}"]
            case "completed" | "failed" | "canceled" | "rejected":
                return self._end_lines(arm, event)
            case _:
                return []

    def _call_line(self, call_id: str, name: str, arguments: str) -> str:
        self._calls[call_id] = name
        return f"  → {name} {_short(arguments)}"

    def _result_line(self, event: TaskEvent) -> str:
        finished = event.tool_finished
        name = self._calls.get(finished.tool_call_id, finished.tool_call_id)
        if finished.HasField("error"):
            return f"  ✗ {name}: {_failure(finished.error)}"
        seconds = finished.duration.seconds + finished.duration.nanos / 1e9
        return f"  ← {name}: {_short(_plain(finished.output_json))} ({seconds * 1000:.1f} ms)"

    def _end_lines(self, arm: str, event: TaskEvent) -> list[str]:
        tokens = f"{self._usage.input_tokens} tokens read, {self._usage.output_tokens} written"
        match arm:
            case "completed":
                return [f"completed · {tokens}", event.completed.output]
            case "failed":
                return [f"{_failure(event.failed.failure)} · {tokens}"]
            case "rejected":
                return [_failure(event.rejected.failure)]
            case _:
                return [f"canceled · {tokens}"]


class LiveView(LineView):
    """For a terminal: the model's text as it is written, the steps dimmed between."""

    def __init__(self) -> None:
        super().__init__()
        self._shown = ""
        self._source = (0, 0)

    def show(self, event: TaskEvent) -> None:
        if event.HasField("text_delta"):
            self._show_text(event)
            return
        if event.HasField("model_replied") and event.model_replied.text:
            # Live text is best effort: what the reply has beyond it is shown now.
            text = event.model_replied.text
            click.echo(text[len(self._shown) :] if text.startswith(self._shown) else f"\n{text}")
            self._shown = ""
        super().show(event)

    def _show_text(self, event: TaskEvent) -> None:
        delta = event.text_delta
        source = (event.attempt, delta.try_number)
        if source != self._source and self._shown:
            click.secho("\n[the model was cut off; this is its next try]", dim=True)
            self._shown = ""
        self._source = source
        if delta.offset == len(self._shown.encode()):
            click.echo(delta.text, nl=False)
            self._shown += delta.text

    def _write(self, line: str) -> None:
        click.secho(line, dim=True)

    def _end_lines(self, arm: str, event: TaskEvent) -> list[str]:
        # The answer has been seen while it was written.
        return super()._end_lines(arm, event)[:1]


def _calls(event: TaskEvent) -> list[Any]:
    return list(event.model_replied.tool_calls)


def _failure(failure: Failure) -> str:
    return f"failed: {reason_name(failure.reason)}: {failure.message}"


def _cause(requested: CancelRequested) -> str:
    return CancelCause.Name(requested.cause).removeprefix("CANCEL_CAUSE_").lower()


def _plain(text: str) -> str:
    value = json.loads(text)
    return value if isinstance(value, str) else text


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:199]}…"
