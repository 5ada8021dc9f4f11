"""The model port: the engine's interface to language models.

It depends on no provider. Adapters (`openai`, `scripted`) send one request; wrappers (`retry`, `breaker`, `fallback`)
are models themselves and decide when and how often to send it. No tool call is used before the reply is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from agent_service.errors import LLMError
from agent_service.v1.task_event_pb2 import FinishReason
from agent_service.v1.task_pb2 import Usage
from agent_service.v1.tool_pb2 import ToolCall

PROVIDER_STATE_BYTES_MAX = 256 * 1024


class Role(StrEnum):
    """The author of a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Message(NamedTuple):
    """One message of the conversation that a model reads.

    `tool_calls` belong to an assistant's message; `tool_call_id` and `tool_name` name the call that a tool's message
    answers. A `pinned` message is kept when a conversation is cut to a model's window: the task itself is pinned.

    In an assistant's message, `model` is the key of the model that wrote it, `provider_state` the opaque state that its
    provider expects back with it (`ModelReply.provider_state`), and `state_tokens` the input tokens of that state.
    """

    role: Role
    text: str
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str = ""
    tool_name: str = ""
    pinned: bool = False
    model: str = ""
    provider_state: bytes = b""
    state_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as it is described to a model. `input_schema_json` is the text of a JSON Schema of type object."""

    name: str
    description: str
    input_schema_json: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The features of a model beside writing text. Adapters use no feature that a model lacks.

    `tools`: it can call tools; `parallel_tools`: several in one reply; `json_schema`: it can follow a schema;
    `stream_usage`: it accepts `stream_options`, and so reports the usage of a streamed reply.
    """

    tools: bool = True
    parallel_tools: bool = True
    json_schema: bool = False
    stream_usage: bool = True


class ModelRequest(NamedTuple):
    """A request to a model. Temperature, maximum of tokens and other settings belong to the configured model.

    `output_schema_json` is the text of a JSON Schema that the reply's text must fit if it calls no tools; empty: none.
    A model may not follow it, so the caller checks the reply.

    `deadline`, in seconds of the running loop's clock, is the latest time at which the caller will cancel the call:
    nothing is begun that cannot end by then. None: no deadline. `first_by`, in the same clock, is the time from which
    on the caller may cancel because no part of a reply has arrived; None: it does not.

    `cache_key` is the same for requests with a common prefix, as those of one session have: providers use it to find
    their cached prefix. At most 64 ASCII characters; empty: none.
    """

    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = ()
    deadline: float | None = None
    output_schema_json: str = ""
    cache_key: str = ""
    first_by: float | None = None


@dataclass(slots=True)
class ModelReply:
    """One whole reply. The caller may keep and change it.

    Every tool call has a name, and the provider's id if there was one; the caller makes ids unique. `provider_model` is
    the provider's name of the model that answered. `usage` has the tokens of this request; its counts of calls stay 0,
    because calls are counted by the events that start them.

    `provider_state` is opaque state that the provider expects back with the next request, at most
    PROVIDER_STATE_BYTES_MAX. It is journaled, and passed back as `Message.provider_state`; only the adapter reads it,
    and it ignores the state of another model or API. `remarks` are log fields about anomalies: words and counts, never
    text of the reply.
    """

    text: str
    tool_calls: list[ToolCall]
    finish_reason: FinishReason.ValueType
    usage: Usage = field(default_factory=Usage)
    provider_model: str = ""
    provider_state: bytes = b""
    remarks: dict[str, str] = field(default_factory=dict)


class ModelObserver(Protocol):
    """The callbacks of a model during one request.

    The model calls `started` before each request to a provider. Two observers may forbid the request by raising: a
    circuit breaker around the adapter (`breaker`), then the engine, which reserves quotas and journals the request. The
    exception passes through `generate`. The other methods report data that the engine journals and streams.
    """

    async def started(self, model: str, try_number: int) -> None:
        """Report that a request to the provider of the model with this key is about to be sent, from `try_number` 1 on.

        Returns when the report is durable. Raises if a limit or a budget forbids the request.
        """

    def text(self, text: str) -> None:
        """Report further text. Text of an earlier try is void. Cheap, never blocks.

        An empty text reports that the reply has begun with something other than text.
        """

    def reasoning(self, text: str) -> None:
        """Report further reasoning, where the model is configured to show it. Cheap, never blocks."""

    async def failed(self, error: LLMError) -> None:
        """Report that the last request that was started gave no reply."""

    def traceparent(self) -> str:
        """Return the W3C trace context to send with the last request that was started; empty for none."""


class Model(Protocol):
    """A language model.

    Adapters call only `observer.text`, `reasoning` and `traceparent`, and raise only LLMError when there is no reply.
    The retry wrapper (`retry`) calls `started` before each request to an adapter, and `failed` after each one that ends
    in LLMError. Cancelling the call closes the connection to the provider and calls nothing.
    """

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        """Request one reply.

        Raises:
            LLMError: there is none.
        """
