"""The fold: what a task is, computed from its events and nothing else.

`TaskState.apply` is the only place that gives events their meaning. Folding is incremental, so that its cost per event
does not grow with the task; events that carry no sequence yet (written, not synced) fold the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import orjson

from agent_service.agents.base import AgentState
from agent_service.errors import reason_name
from agent_service.llm.base import Message, Role
from agent_service.llm.tokens import utf8_length
from agent_service.store.base import STATE_AFTER, TERMINAL
from agent_service.v1.task_event_pb2 import TaskEvent, TaskSubmitted, ToolFinished, ToolStarted
from agent_service.v1.task_pb2 import Task, TaskKind, TaskState, Usage
from agent_service.v1.tool_pb2 import TOOL_SIDE_EFFECT_SIDE_EFFECTING

SUBMITTED = TaskState.TASK_STATE_SUBMITTED
WORKING = TaskState.TASK_STATE_WORKING
INPUT_REQUIRED = TaskState.TASK_STATE_INPUT_REQUIRED
COMPLETED = TaskState.TASK_STATE_COMPLETED
FAILED = TaskState.TASK_STATE_FAILED
CANCELED = TaskState.TASK_STATE_CANCELED
REJECTED = TaskState.TASK_STATE_REJECTED

# What may follow what; a terminal state is followed by nothing.
NEXT_STATES: Mapping[TaskState.ValueType, frozenset[TaskState.ValueType]] = MappingProxyType(
    {
        TaskState.TASK_STATE_UNSPECIFIED: frozenset({SUBMITTED}),
        SUBMITTED: frozenset({WORKING, FAILED, CANCELED, REJECTED}),
        WORKING: frozenset({WORKING, INPUT_REQUIRED, COMPLETED, FAILED, CANCELED}),
        INPUT_REQUIRED: frozenset({WORKING, FAILED, CANCELED}),
        **{state: frozenset() for state in TERMINAL},
    }
)


class ForbiddenTransitionError(Exception):
    """A journal that cannot be: a bug of the service, never of a caller."""


class FoldedTask:
    """A task as its events up to now make it.

    `task` is what the API shows; `agent_state` what its agent decides over; `submitted` the admitted request. `turns`
    counts the replies received, `input_bytes` what the next request to a model would carry, `call_ids` are those of
    all tool calls so far, and `attempt_is_open` says that an attempt began and did not say that it ended.
    """

    __slots__ = (
        "_started",
        "_turn_calls",
        "agent_state",
        "attempt_is_open",
        "call_ids",
        "input_bytes",
        "submitted",
        "task",
        "turns",
    )

    def __init__(self) -> None:
        self.task = Task()
        self.agent_state = AgentState()
        self.submitted = TaskSubmitted()
        self.turns = 0
        self.input_bytes = 0
        self.attempt_is_open = False
        self.call_ids: set[str] = set()
        self._turn_calls: list[str] = []
        self._started: dict[str, ToolStarted] = {}

    @classmethod
    def fold(cls, events: Iterable[TaskEvent]) -> FoldedTask:
        """Fold a whole journal, or any prefix of one."""
        folded = cls()
        for event in events:
            folded.apply(event)
        return folded

    @property
    def is_terminal(self) -> bool:
        return self.task.state in TERMINAL

    def calls_interrupted(self) -> list[ToolStarted]:
        """Side-effecting calls that were started and have no result. Asked at the beginning of an attempt."""
        return [call for call in self._started.values() if call.side_effect == TOOL_SIDE_EFFECT_SIDE_EFFECTING]

    def has_started(self, call_id: str) -> bool:
        """Whether a call without a result was started: by an earlier attempt, when asked before this one starts it."""
        return call_id in self._started

    def apply(self, event: TaskEvent) -> None:
        """Fold one more event in.

        Raises:
            ForbiddenTransitionError: the event cannot follow the ones before it.
        """
        arm = event.WhichOneof("event")
        if arm is None or arm in UNJOURNALED:
            return
        task = self.task
        state = STATE_AFTER.get(arm, task.state)
        if arm in STATE_AFTER:
            if state not in NEXT_STATES[task.state]:
                raise ForbiddenTransitionError(f"{arm} after {TaskState.Name(task.state)} in task {event.task_id}")
        elif task.state in TERMINAL or not task.state:
            raise ForbiddenTransitionError(f"{arm} after {TaskState.Name(task.state)} in task {event.task_id}")
        handler = _HANDLERS.get(arm)
        if handler is not None:
            handler(self, event)
        task.state = state
        task.attempt = event.attempt
        task.update_time.CopyFrom(event.create_time)
        if event.sequence:
            task.last_sequence = event.sequence

    def _submitted(self, event: TaskEvent) -> None:
        submitted = event.submitted
        self.submitted = submitted
        task = self.task
        task.id = event.task_id
        task.kind = submitted.kind
        task.agent = submitted.agent
        task.task = submitted.task
        if submitted.labels:
            task.labels.update(submitted.labels)
        task.create_time.CopyFrom(event.create_time)
        task.deadline.CopyFrom(submitted.deadline)
        if submitted.kind == TaskKind.TASK_KIND_TOOL:
            self.agent_state.calls_open.append(submitted.tool_call)
            self._turn_calls.append(submitted.tool_call.id)
            return
        if submitted.instructions:
            self._say(Message(Role.SYSTEM, submitted.instructions))
        self._say(Message(Role.USER, submitted.task))

    def _attempt_started(self, event: TaskEvent) -> None:
        self.attempt_is_open = True

    def _attempt_ended(self, event: TaskEvent) -> None:
        self.attempt_is_open = False

    def _model_started(self, event: TaskEvent) -> None:
        self.task.usage.model_calls += 1

    def _model_failed(self, event: TaskEvent) -> None:
        add_tokens(self.task.usage, event.model_failed.usage)

    def _model_replied(self, event: TaskEvent) -> None:
        reply = event.model_replied
        self.turns = reply.turn
        add_tokens(self.task.usage, reply.usage)
        agent_state = self.agent_state
        agent_state.last_reply = reply
        agent_state.calls_open = list(reply.tool_calls)
        agent_state.results = {}
        self._turn_calls = [call.id for call in reply.tool_calls]
        self.call_ids.update(self._turn_calls)
        self._say(Message(Role.ASSISTANT, reply.text, tuple(reply.tool_calls)))

    def _tool_started(self, event: TaskEvent) -> None:
        started = event.tool_started
        if started.tool_call_id not in self._started:  # run again after a crash, it is the same call
            self.task.usage.tool_calls += 1
        self._started[started.tool_call_id] = started

    def _tool_finished(self, event: TaskEvent) -> None:
        finished = event.tool_finished
        agent_state = self.agent_state
        answered = [call for call in agent_state.calls_open if call.id == finished.tool_call_id]
        if not answered:
            raise ForbiddenTransitionError(f"tool_finished for no open call in task {event.task_id}")
        agent_state.calls_open = [call for call in agent_state.calls_open if call.id != finished.tool_call_id]
        agent_state.results[finished.tool_call_id] = finished
        self._started.pop(finished.tool_call_id, None)
        if agent_state.calls_open or agent_state.last_reply is None:
            return
        names = {call.id: call.name for call in agent_state.last_reply.tool_calls}
        for call_id in self._turn_calls:
            text = result_text(agent_state.results[call_id])
            self._say(Message(Role.TOOL, text, tool_call_id=call_id, tool_name=names[call_id]))

    def _completed(self, event: TaskEvent) -> None:
        self.task.output = event.completed.output

    def _failed(self, event: TaskEvent) -> None:
        self.task.failure.CopyFrom(event.failed.failure)

    def _canceled(self, event: TaskEvent) -> None:
        self.task.cancel_cause = event.canceled.cause

    def _rejected(self, event: TaskEvent) -> None:
        self.task.failure.CopyFrom(event.rejected.failure)

    def _say(self, message: Message) -> None:
        self.agent_state.messages.append(message)
        self.input_bytes += utf8_length(message.text) + MESSAGE_OVERHEAD_BYTES
        for call in message.tool_calls:
            self.input_bytes += len(call.name) + utf8_length(call.arguments_json) + MESSAGE_OVERHEAD_BYTES


# Roles, separators and ids that a provider counts beside the text.
MESSAGE_OVERHEAD_BYTES = 16

UNJOURNALED = frozenset({"text_delta", "heartbeat"})

_HANDLERS: Mapping[str, Callable[[FoldedTask, TaskEvent], None]] = MappingProxyType(
    {
        "submitted": FoldedTask._submitted,
        "attempt_started": FoldedTask._attempt_started,
        "attempt_ended": FoldedTask._attempt_ended,
        "model_started": FoldedTask._model_started,
        "model_failed": FoldedTask._model_failed,
        "model_replied": FoldedTask._model_replied,
        "tool_started": FoldedTask._tool_started,
        "tool_finished": FoldedTask._tool_finished,
        "completed": FoldedTask._completed,
        "failed": FoldedTask._failed,
        "canceled": FoldedTask._canceled,
        "rejected": FoldedTask._rejected,
    }
)


def result_text(finished: ToolFinished) -> str:
    """A tool's result as a model reads it: a string bare, anything else as JSON text, an error as a JSON object."""
    if finished.HasField("error"):
        error = {"reason": reason_name(finished.error.reason), "message": finished.error.message}
        return orjson.dumps({"error": error}).decode()
    if finished.output_json.startswith('"'):
        text: str = orjson.loads(finished.output_json)
        return text
    return finished.output_json


def add_tokens(total: Usage, used: Usage) -> None:
    """Add the tokens of one request. Calls are counted by the events that start them."""
    total.input_tokens += used.input_tokens
    total.cached_input_tokens += used.cached_input_tokens
    total.output_tokens += used.output_tokens
    total.reasoning_tokens += used.reasoning_tokens
    total.estimated = total.estimated or used.estimated
