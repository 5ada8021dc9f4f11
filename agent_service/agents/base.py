"""The agent port: a pure decision over what happened so far.

An agent never does anything. It looks at the folded state and says what should happen next; the engine does it and
journals what came of it. So every agent survives a crash without trying: after a restart the same events fold to the
same state, and the same decision follows. An agent must not read the clock, draw random numbers or keep a state of its
own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent_service.llm.base import Message
from agent_service.schemas.output_schema import OutputSchema
from agent_service.v1.task_event_pb2 import ModelReplied, ToolFinished
from agent_service.v1.task_pb2 import Failure
from agent_service.v1.tool_pb2 import ToolCall


@dataclass(slots=True)
class AgentState:
    """What an agent decides over. Owned by the fold: agents read it and leave it alone.

    `messages` is the conversation as a model reads it: instructions, task, replies, tool results in the model's order.
    `calls_open` are the tool calls that were asked for and have no result yet, in the model's order; the results of
    their finished siblings are in `results` by call id, and join `messages` when the last of them is in.
    `output_schema` is what the answer must fit; an answer that does not fails the task.
    """

    messages: list[Message] = field(default_factory=list)
    last_reply: ModelReplied | None = None
    calls_open: list[ToolCall] = field(default_factory=list)
    results: dict[str, ToolFinished] = field(default_factory=dict)
    output_schema: OutputSchema | None = None


@dataclass(frozen=True, slots=True)
class AskModel:
    """Ask the agent's model for one reply to these messages. With an `output_schema` the model is told to answer by it,
    where it does not call tools: models follow it as they can.
    """

    messages: Sequence[Message]
    output_schema: OutputSchema | None = None


@dataclass(frozen=True, slots=True)
class CallTools:
    """Run these calls, side by side; every one gets a result or an error."""

    calls: Sequence[ToolCall]


@dataclass(frozen=True, slots=True)
class Complete:
    """End the task with this answer, which is JSON text where the task has an output schema. `truncated`: the model
    reached its maximum of tokens before the answer was whole.
    """

    output: str
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Fail:
    """End the task without one."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class RequireInput:
    """Ask whoever answers for the task, and wait. The answer joins `messages` as the user's."""

    question: str


Action = AskModel | CallTools | RequireInput | Complete | Fail


class Agent(Protocol):
    """A way of working on a task. A configuration names such a class by `class: package.module:Name`."""

    def step(self, state: AgentState) -> Action:
        """Return what to do next. Pure: the same state gives the same action. An exception fails the task as
        INTERNAL.
        """
