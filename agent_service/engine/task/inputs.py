"""Pending inputs: created when a call or an agent needs an answer, checked when the answer comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from agent_service.agents.base import RequireInput
from agent_service.engine.task.state import FoldedTask
from agent_service.text.times import set_nanos
from agent_service.v1.task_event_pb2 import InputReceived, InputRequired, TaskEvent
from agent_service.v1.task_pb2 import (
    INPUT_KIND_APPROVAL,
    INPUT_KIND_OUTCOME_UNKNOWN,
    INPUT_KIND_QUESTION,
    InputAnswer,
    InputKind,
    PendingInput,
)
from agent_service.v1.tool_pb2 import ToolCall

# The answers that each kind of input accepts, by the names of the fields in the oneof `answer`.
ANSWERS: Mapping[InputKind.ValueType, frozenset[str]] = MappingProxyType(
    {
        INPUT_KIND_APPROVAL: frozenset({"approve", "deny"}),
        INPUT_KIND_OUTCOME_UNKNOWN: frozenset({"run_again", "output_json", "error_message"}),
        INPUT_KIND_QUESTION: frozenset({"message"}),
    }
)

# The input timeout of tasks accepted by versions that had none.
INPUT_TIMEOUT_DEFAULT_NS = 86_400 * 10**9


def approval_of(call: ToolCall) -> PendingInput:
    """Return the pending input that asks for approval of a call."""
    return PendingInput(kind=INPUT_KIND_APPROVAL, tool_call=call)


def outcome_of(call: ToolCall) -> PendingInput:
    """Return the pending input that asks for the outcome of a call that a crash interrupted."""
    return PendingInput(kind=INPUT_KIND_OUTCOME_UNKNOWN, tool_call=call)


def question_of(required: RequireInput) -> PendingInput:
    """Return the pending input with the agent's question."""
    return PendingInput(kind=INPUT_KIND_QUESTION, question=required.question)


def required(folded: FoldedTask, inputs: Sequence[PendingInput], now_ns: int) -> TaskEvent:
    """Return the event that makes a task wait for these inputs. Each input gets an id and an expiry."""
    expire_ns = now_ns + (folded.submitted.input_timeout.ToNanoseconds() or INPUT_TIMEOUT_DEFAULT_NS)
    for number, pending in enumerate(inputs, folded.inputs_asked + 1):
        pending.input_id = f"input_{number}"
        set_nanos(pending.expire_time, expire_ns)
    return TaskEvent(input_required=InputRequired(inputs=inputs))


def received(folded: FoldedTask, input_id: str, answer: InputAnswer, answered_by: str) -> TaskEvent:
    """Return the event that records an answer. The answer to the last pending input resumes the task."""
    is_last = len(folded.task.pending_inputs) == 1
    arrived = InputReceived(input_id=input_id, answer=answer, answered_by=answered_by, resumes=is_last)
    return TaskEvent(input_received=arrived)
