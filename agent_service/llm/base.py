"""The model port: what the engine asks of a language model.

Knows no provider. Adapters (`openai`, `scripted`) answer one request; wrappers (`retry`) are models themselves and
decide how often to ask. Nothing is run, and no tool call is believed, before the reply is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from agent_service.errors import LLMError
from agent_service.v1.task_event_pb2 import FinishReason
from agent_service.v1.task_pb2 import Usage
from agent_service.v1.tool_pb2 import ToolCall

PROVIDER_STATE_BYTES_MAX = 256 * 1024


class Role(StrEnum):
    """Who says a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation that a model reads.

    `tool_calls` are an assistant's; `tool_call_id` and `tool_name` say which call a tool's message answers. One that is
    `pinned` stays where a conversation is cut to a model's window: the task itself is.

    Of an assistant's message, `model` is the key of the model that wrote it, and `provider_state` what its provider
    wants back with it (`ModelReply.provider_state`); `state_tokens` is what that counts as input.
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
    """A tool as a model is told of it. `input_schema_json` is the text of a JSON Schema of type object."""

    name: str
    description: str
    input_schema_json: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do beside writing text: adapters ask it for nothing that it cannot.

    `tools`: call them; `parallel_tools`: several in one reply; `json_schema`: keep to one; `stream_usage`: take
    `stream_options`, and so tell what a streamed reply used.
    """

    tools: bool = True
    parallel_tools: bool = True
    json_schema: bool = False
    stream_usage: bool = True


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a model is asked. Temperature, maximum of tokens and the rest belong to the configured model itself.

    `output_schema_json` is the text of a JSON Schema that the reply's text is to fit, where it calls no tools; empty:
    none. How well a model follows it is its own: whoever asked checks the reply.

    `deadline`, in the running loop's clock (seconds), is when the caller will cancel the call at the latest: nothing is
    begun that cannot be over by then. None: no such time. `first_by`, in the same clock, is from when on it may be
    cancelled because nothing of a reply has come; None: not for that.

    `cache_key` is the same for requests that begin alike, as those of one session do: providers find their cached
    prefix by it. At most 64 ASCII characters; empty: none.
    """

    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = ()
    deadline: float | None = None
    output_schema_json: str = ""
    cache_key: str = ""
    first_by: float | None = None


@dataclass(slots=True)
class ModelReply:
    """One whole reply, the caller's to keep and change.

    Every tool call has a name, and an id that is the provider's where it gave one: making it unique is the caller's
    business. `provider_model` is what the provider calls the model that answered. `usage` has this request's tokens;
    its counts of calls stay 0, because the events that start calls are counted.

    `provider_state` is what the provider wants back with the next request: opaque, at most PROVIDER_STATE_BYTES_MAX.
    It is journaled, and handed back as `Message.provider_state`; the adapter alone reads it, and ignores what is not of
    its own model and API. `remarks` are fields for the log about what was odd: words and counts, no text of the reply.
    """

    text: str
    tool_calls: list[ToolCall]
    finish_reason: FinishReason.ValueType
    usage: Usage = field(default_factory=Usage)
    provider_model: str = ""
    provider_state: bytes = b""
    remarks: dict[str, str] = field(default_factory=dict)


class ModelObserver(Protocol):
    """What a model calls while it works on one request: the one way from a model back up.

    Before each request to a provider it asks with `started` whether that may be sent. Who answers: a circuit breaker
    around the adapter (`breaker`), then the engine, which reserves quotas and journals the request. Whatever one of
    them raises forbids the request and comes out of `generate`. The rest is for the engine to journal and stream.
    """

    async def started(self, model: str, try_number: int) -> None:
        """A request to the provider of the model with this key is about to be sent; the first has `try_number` 1.

        Returns once that is durable; raises what forbids the request (a limit, a budget).
        """

    def text(self, text: str) -> None:
        """The model has written some more. Text of an earlier try is void. Cheap, never blocks.

        An empty text is none: it says that the reply has begun, with something else.
        """

    def reasoning(self, text: str) -> None:
        """The model has said some more of its reasoning, where it is configured to. Cheap, never blocks."""

    async def failed(self, error: LLMError) -> None:
        """The request that was started last gave no reply."""

    def traceparent(self) -> str:
        """The W3C trace context to send with the request that was started last; empty for none."""


class Model(Protocol):
    """A language model.

    Adapters call `observer.text`, `reasoning` and `traceparent` alone and raise LLMError, nothing else, when there is
    no reply; the wrapper that decides on tries (`retry`) calls `started` before each request to an adapter and `failed`
    after each that ended in LLMError. Cancelling the call closes the connection to the provider and calls nothing.
    """

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        """Ask for one reply.

        Raises:
            LLMError: there is none.
        """
