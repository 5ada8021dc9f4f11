"""The fold: the state of a task, computed from its events and nothing else.

`FoldedTask.apply` is the only place that defines the effect of events on a task. The table in
`journal/event_rules.py` defines which may follow which, and what they mean to stores and watchers. Folding is
incremental, so its cost per event does not grow with the task. Events without a sequence (written, not synced) fold the
same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from agent_service.agents.base import AgentState
from agent_service.engine.task.tool_results import result_text
from agent_service.journal.event_rules import NEXT_STATES, RULES, TERMINAL, led_to
from agent_service.llm.base import Message, Role
from agent_service.schemas.output_schema import OutputSchema, as_struct
from agent_service.v1.task_event_pb2 import (
    ATTEMPT_END_CAUSE_LOST,
    CancelRequested,
    InputReceived,
    ModelStarted,
    TaskCanceled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskSubmitted,
)
from agent_service.v1.task_pb2 import (
    INPUT_KIND_QUESTION,
    WAIT_CAUSE_INPUT,
    InputAnswer,
    Task,
    TaskKind,
    TaskState,
    Usage,
    Waiting,
)

WORKING = TaskState.TASK_STATE_WORKING
INPUT_REQUIRED = TaskState.TASK_STATE_INPUT_REQUIRED


class ForbiddenTransitionError(Exception):
    """The journal is impossible: a bug of the service, never of a caller."""


class FoldedTask:
    """The state of a task after the events so far.

    `task` is the message that the API returns, `agent_state` the input of its agent, `submitted` the admitted request.
    `turns` counts the replies received, `call_ids` holds the ids of all tool calls so far, and `attempt_is_open` means
    that an attempt has started and has no end in the journal. `losses` counts the latest attempts in a row that ended
    with their process, without a reply or a result. `answers` holds the received inputs by id, `inputs_asked` counts
    all that were ever requested. `open_request` is the request to a model that has started and not ended.
    """

    __slots__ = (
        "_decisions",
        "_has_progressed",
        "_started_in",
        "_turn_calls",
        "_waited_ns",
        "_waits_since_ns",
        "agent_state",
        "answers",
        "attempt_is_open",
        "call_ids",
        "cancel_requested",
        "inputs_asked",
        "losses",
        "open_request",
        "submitted",
        "task",
        "turns",
    )

    def __init__(self) -> None:
        self.task = Task()
        self.agent_state = AgentState()
        self.submitted = TaskSubmitted()
        self.turns = 0
        self.attempt_is_open = False
        self.call_ids: set[str] = set()
        self.cancel_requested: CancelRequested | None = None
        self.losses = 0
        self.open_request: ModelStarted | None = None
        self.inputs_asked = 0
        self.answers: dict[str, InputReceived] = {}
        self._has_progressed = False
        self._turn_calls: list[str] = []
        self._started_in: dict[str, int] = {}
        self._decisions: dict[str, InputAnswer] = {}
        self._waited_ns = 0
        self._waits_since_ns = 0

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

    @property
    def is_waiting(self) -> bool:
        """True if the task waits for input."""
        return self.task.state == INPUT_REQUIRED

    @property
    def losses_if_lost(self) -> int:
        """`losses`, plus one for an open attempt without progress: the count if that attempt is lost too."""
        return self.losses + (self.attempt_is_open and not self._has_progressed)

    def has_started(self, call_id: str) -> bool:
        """Return whether the call was started and has no result yet."""
        return call_id in self._started_in

    def is_interrupted(self, call_id: str) -> bool:
        """Return whether an earlier attempt started the call and recorded no result."""
        return self._started_in.get(call_id, self.task.attempt) < self.task.attempt

    def decision(self, call_id: str) -> str:
        """Return the name of the answer's field for a call; "" if there is no answer."""
        answer = self._decisions.get(call_id)
        return (answer.WhichOneof("answer") or "") if answer else ""

    def answer_about(self, call_id: str) -> InputAnswer:
        """Return the answer about a call."""
        return self._decisions[call_id]

    def begin_with(self, history: Sequence[Message]) -> None:
        """Insert the session's earlier messages after the instructions, before the task's message."""
        messages = self.agent_state.messages
        start = 1 if messages and messages[0].role is Role.SYSTEM else 0
        messages[start:start] = history

    def apply(self, event: TaskEvent) -> None:
        """Fold one more event.

        Raises:
            ForbiddenTransitionError: the event cannot follow the ones before it.
        """
        arm = event.WhichOneof("event") or ""
        rule = RULES.get(arm)
        if rule is None or rule.is_transient:
            return
        task = self.task
        after = led_to(rule, event) if rule.state_if else rule.state
        if after not in NEXT_STATES[task.state]:
            raise ForbiddenTransitionError(f"{arm} after {TaskState.Name(task.state)} in task {event.task_id}")
        state = after or task.state
        handler = _HANDLERS.get(arm)
        if handler is not None:
            handler(self, event)
        task.state = state
        if state in TERMINAL and task.pending_inputs:
            del task.pending_inputs[:]
            task.ClearField("waiting")
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
        task.session_id = submitted.session_id
        task.task = submitted.task
        if submitted.labels:
            task.labels.update(submitted.labels)
        task.create_time.CopyFrom(event.create_time)
        task.deadline.CopyFrom(submitted.deadline)
        if submitted.kind == TaskKind.TASK_KIND_TOOL:
            self.agent_state.calls_open.append(submitted.tool_call)
            self._turn_calls.append(submitted.tool_call.id)
            return
        if submitted.output_schema_json:
            self.agent_state.output_schema = OutputSchema(submitted.output_schema_json)
        if submitted.instructions:
            self.agent_state.messages.append(Message(Role.SYSTEM, submitted.instructions))
        self.agent_state.messages.append(Message(Role.USER, submitted.task, pinned=True))

    def _attempt_started(self, event: TaskEvent) -> None:
        if self.task.pending_inputs:
            raise ForbiddenTransitionError(f"attempt_started in task {event.task_id}, which waits for input")
        self.attempt_is_open = True
        self.open_request = None
        self._has_progressed = False

    def _attempt_ended(self, event: TaskEvent) -> None:
        self.attempt_is_open = False
        if event.attempt_ended.cause == ATTEMPT_END_CAUSE_LOST:
            self.losses = 0 if self._has_progressed else self.losses + 1

    def _input_required(self, event: TaskEvent) -> None:
        inputs = event.input_required.inputs
        self.task.pending_inputs.extend(inputs)
        self.inputs_asked += len(inputs)
        self.attempt_is_open = False
        self.losses = 0
        self._waits_since_ns = event.create_time.ToNanoseconds()
        wait = Waiting(cause=WAIT_CAUSE_INPUT, since=event.create_time, message="it needs an answer to pending_inputs")
        self.task.waiting.CopyFrom(wait)

    def _input_received(self, event: TaskEvent) -> None:
        received, pending = event.input_received, self.task.pending_inputs
        answered = next((each for each in pending if each.input_id == received.input_id), None)
        if answered is None or received.resumes != (len(pending) == 1):
            raise ForbiddenTransitionError(f"input_received out of place in task {event.task_id}")
        self.answers[received.input_id] = received
        if answered.kind == INPUT_KIND_QUESTION:
            self.agent_state.messages.append(Message(Role.USER, received.answer.message))
        else:
            self._decisions[answered.tool_call.id] = received.answer
        pending.remove(answered)
        if received.resumes:
            self.task.ClearField("waiting")
            self._move_deadline(event.create_time.ToNanoseconds())

    def _move_deadline(self, now_ns: int) -> None:
        """Extend the task's own deadline by the time it waited. A caller's deadline no longer applies."""
        self._waited_ns += max(0, now_ns - self._waits_since_ns)
        own_ns = self.submitted.deadline.ToNanoseconds()
        if self.submitted.HasField("timeout"):
            own_ns = self.task.create_time.ToNanoseconds() + self.submitted.timeout.ToNanoseconds()
        self.task.deadline.FromNanoseconds(own_ns + self._waited_ns)

    def _cancel_requested(self, event: TaskEvent) -> None:
        self.cancel_requested = event.cancel_requested

    def _model_started(self, event: TaskEvent) -> None:
        self.task.usage.model_calls += 1
        self.open_request = event.model_started

    def _model_failed(self, event: TaskEvent) -> None:
        failed = event.model_failed
        if failed.HasField("usage"):
            add_tokens(self.task.usage, failed.usage)
        else:  # it was never sent
            self.task.usage.model_calls -= 1
        self.open_request = None

    def _model_replied(self, event: TaskEvent) -> None:
        reply = event.model_replied
        self._has_progressed = True
        model = self.open_request.model if self.open_request is not None else ""
        self.open_request = None
        self.turns = reply.turn
        add_tokens(self.task.usage, reply.usage)
        agent_state = self.agent_state
        agent_state.last_reply = reply
        agent_state.calls_open = list(reply.tool_calls)
        agent_state.results = {}
        self._turn_calls = [call.id for call in reply.tool_calls]
        self.call_ids.update(self._turn_calls)
        said = Message(
            Role.ASSISTANT,
            reply.text,
            tuple(reply.tool_calls),
            model=model,
            provider_state=reply.provider_state,
            state_tokens=reply.usage.reasoning_tokens if reply.provider_state else 0,
        )
        self.agent_state.messages.append(said)

    def _tool_started(self, event: TaskEvent) -> None:
        call_id = event.tool_started.tool_call_id
        if call_id not in self._started_in:  # run again after a crash, it is the same call
            self.task.usage.tool_calls += 1
        self._started_in[call_id] = event.attempt
        if self.decision(call_id) == "run_again":
            # That decision was about the previous run.
            del self._decisions[call_id]

    def _tool_finished(self, event: TaskEvent) -> None:
        finished = event.tool_finished
        agent_state = self.agent_state
        answered = [call for call in agent_state.calls_open if call.id == finished.tool_call_id]
        if not answered:
            raise ForbiddenTransitionError(f"tool_finished for no open call in task {event.task_id}")
        agent_state.calls_open = [call for call in agent_state.calls_open if call.id != finished.tool_call_id]
        agent_state.results[finished.tool_call_id] = finished
        self._has_progressed = True
        self._started_in.pop(finished.tool_call_id, None)
        if agent_state.calls_open or agent_state.last_reply is None:
            return
        names = {call.id: call.name for call in agent_state.last_reply.tool_calls}
        for call_id in self._turn_calls:
            text = result_text(agent_state.results[call_id])
            self.agent_state.messages.append(Message(Role.TOOL, text, tool_call_id=call_id, tool_name=names[call_id]))

    @classmethod
    def of_first_and_last(cls, first: TaskEvent, last: TaskEvent, attempt: int, *, with_output: bool) -> FoldedTask:
        """Return a terminal task of at most one attempt from its first and last events alone. Its `task` equals that of
        the full fold, except that the answer is included only `with_output`, and that a deadline that a wait extended,
        with no attempt afterwards, is shown as it was set.
        """
        folded = cls()
        folded.apply(first)
        if attempt:
            folded.task.state = WORKING
            folded.task.attempt = attempt
        if last.HasField("completed") and not with_output:
            without_output = TaskCompleted(output_truncated=last.completed.output_truncated)
            ended = TaskEvent(sequence=last.sequence, attempt=last.attempt, completed=without_output)
            ended.create_time.CopyFrom(last.create_time)
            if last.completed.HasField("usage"):
                ended.completed.usage.CopyFrom(last.completed.usage)
            folded.apply(ended)
        else:
            folded.apply(last)
        return folded

    def _completed(self, event: TaskEvent) -> None:
        self._take_total(event.completed)
        self.task.output = event.completed.output
        self.task.output_truncated = event.completed.output_truncated
        if self.submitted.output_schema_json and (struct := as_struct(event.completed.output)) is not None:
            self.task.output_struct.CopyFrom(struct)

    def _failed(self, event: TaskEvent) -> None:
        self._take_total(event.failed)
        self.task.failure.CopyFrom(event.failed.failure)

    def _canceled(self, event: TaskEvent) -> None:
        self._take_total(event.canceled)
        self.task.cancel_cause = event.canceled.cause

    def _rejected(self, event: TaskEvent) -> None:
        self.task.failure.CopyFrom(event.rejected.failure)

    def _take_total(self, end: TaskCompleted | TaskFailed | TaskCanceled) -> None:
        """Take the usage of the whole task from its last event, which repeats it for `of_first_and_last`."""
        if end.HasField("usage"):
            self.task.usage.CopyFrom(end.usage)


_HANDLERS: Mapping[str, Callable[[FoldedTask, TaskEvent], None]] = MappingProxyType(
    {
        "submitted": FoldedTask._submitted,
        "attempt_started": FoldedTask._attempt_started,
        "attempt_ended": FoldedTask._attempt_ended,
        "input_required": FoldedTask._input_required,
        "input_received": FoldedTask._input_received,
        "cancel_requested": FoldedTask._cancel_requested,
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


def add_tokens(total: Usage, used: Usage) -> None:
    """Add the tokens and the cost of one request. Calls are counted by the events that start them."""
    total.input_tokens += used.input_tokens
    total.cached_input_tokens += used.cached_input_tokens
    total.output_tokens += used.output_tokens
    total.reasoning_tokens += used.reasoning_tokens
    total.estimated = total.estimated or used.estimated
    if used.HasField("cost_nanos"):
        total.cost_nanos += used.cost_nanos
