"""The agent port: a pure decision based on the events so far.

An agent performs nothing. It reads the folded state and returns the next action; the engine performs it and journals
the result. So every agent survives a crash: after a restart the same events fold to the same state, and the same
decision follows. An agent must not read the clock, draw random numbers or keep state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from agent_service.llm.base import Message
from agent_service.schemas.output_schema import OutputSchema
from agent_service.v1.task_event_pb2 import ModelReplied, ToolFinished
from agent_service.v1.task_pb2 import Failure
from agent_service.v1.tool_pb2 import ToolCall


@dataclass(slots=True)
class AgentState:
    """The state that an agent decides on. Owned by the fold: agents must not change it.

    `messages` is the conversation as a model reads it: instructions, task, replies, tool results in the model's order.
    `calls_open` are the requested tool calls without a result, in the model's order. The results of finished calls of
    the same reply are in `results` by call id; they are added to `messages` when the last one has arrived.
    `output_schema` is the schema of the answer; an answer that violates it fails the task.
    """

    messages: list[Message] = field(default_factory=list)
    last_reply: ModelReplied | None = None
    calls_open: list[ToolCall] = field(default_factory=list)
    results: dict[str, ToolFinished] = field(default_factory=dict)
    output_schema: OutputSchema | None = None


class AskModel(NamedTuple):
    """Request one reply of the agent's model to these messages. With an `output_schema` the model is instructed to
    follow it in an answer without tool calls; models may still violate it.
    """

    messages: Sequence[Message]
    output_schema: OutputSchema | None = None


class CallTools(NamedTuple):
    """Run these calls concurrently; each gets a result or an error."""

    calls: Sequence[ToolCall]


class Complete(NamedTuple):
    """End the task with this answer, which is JSON text if the task has an output schema. `truncated`: the model
    reached its maximum of tokens before the answer was complete.
    """

    output: str
    truncated: bool = False


class Fail(NamedTuple):
    """End the task with a failure."""

    failure: Failure


class RequireInput(NamedTuple):
    """Ask a question and wait for the answer, which is added to `messages` as the user's."""

    question: str


Action = AskModel | CallTools | RequireInput | Complete | Fail


class Agent(Protocol):
    """Decides the next action of a task. A configuration names such a class by `class: package.module:Name`."""

    def step(self, state: AgentState) -> Action:
        """Return the next action. Pure: the same state gives the same action. An exception fails the task with
        INTERNAL.
        """
