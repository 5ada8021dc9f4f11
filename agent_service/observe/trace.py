"""Spans: operations with a duration and a parent. Independent of vendors: `otel` records spans; those here do not.

An unrecorded span costs one attribute check. The W3C trace context (`traceparent`) accompanies everything that belongs
to a trace: it is in the journal, in requests to providers, in tools and in log lines.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple, Protocol

Value = str | bool | int | float | Sequence[str]
Attributes = Mapping[str, Value]

_NOTHING = nullcontext()
NO_IDS: Mapping[str, str] = MappingProxyType({})


class Kind(Enum):
    """The kind of a span: an incoming call, an outgoing call, or internal work."""

    SERVER = "server"
    CLIENT = "client"
    INTERNAL = "internal"


class Span:
    """A span that is not recorded; recorded spans override all members."""

    # False: callers need not compute attributes.
    is_recorded = False
    # The W3C trace context for work within the span; empty outside of a trace.
    traceparent = ""
    # `trace_id` and `span_id`, as log lines have them.
    ids: Mapping[str, str] = NO_IDS
    # The exemplar for metrics: the `ids` of a recorded trace.
    exemplar: Mapping[str, str] | None = None

    def child(self, name: str, kind: Kind, attributes: Attributes) -> Span:
        """Begin a child span."""
        return self

    def set(self, attributes: Attributes) -> None:
        """Add attributes."""

    def link(self, traceparent: str) -> None:
        """Link a related span that is neither its parent nor its child."""

    def end(self, error: str = "") -> None:
        """End the span; `error` names the kind of a failure. Called once."""

    def active(self) -> AbstractContextManager[None]:
        """Make this the current span for log lines and for the code of tools while the context is entered."""
        return _NOTHING


NO_SPAN = Span()


class PassedOn(Span):
    """An unsampled trace that the caller began: work for it still carries the trace's ids."""

    def __init__(self, context: TraceContext) -> None:
        self.traceparent = context.traceparent
        self.ids = {"trace_id": context.trace_id, "span_id": context.span_id}


class Tracer(Protocol):
    """Begins spans. `shows_content`: prompts, arguments and results may be recorded in them."""

    shows_content: bool

    def call(self, name: str, traceparent: str, attributes: Attributes) -> Span:
        """Begin the span of an incoming call with this trace context, which may be empty; decide whether it is
        sampled.
        """

    def within(self, traceparent: str, name: str, attributes: Attributes) -> Span:
        """Continue a trace whose sampling was decided earlier, maybe in another process; not recorded if unsampled."""


class NoTracer:
    """A Tracer that records nothing."""

    shows_content = False

    def call(self, name: str, traceparent: str, attributes: Attributes) -> Span:
        return NO_SPAN

    def within(self, traceparent: str, name: str, attributes: Attributes) -> Span:
        return NO_SPAN


NO_TRACER: Tracer = NoTracer()


class TraceContext(NamedTuple):
    """The parts of a `traceparent`."""

    traceparent: str
    trace_id: str
    span_id: str
    is_sampled: bool


@dataclass(frozen=True, slots=True)
class Sampling:
    """The ratio of new traces that are sampled, 0 to 1, and whether traces of callers follow
    the caller's decision.
    """

    ratio: float
    follows_parent: bool = True

    def takes(self, parent: TraceContext | None) -> bool:
        if parent is None:
            return self.ratio > 0 and random.random() < self.ratio  # noqa: S311 - not a secret
        if self.follows_parent:
            return parent.is_sampled
        return int(parent.trace_id[16:], 16) < self.ratio * 2**64


# https://www.w3.org/TR/trace-context/#traceparent-header: fields that a later version appends are ignored.
_TRACEPARENT = re.compile(
    r"(?:00(?=.{53}$)|(?!00|ff)[0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)


def parse(traceparent: str) -> TraceContext | None:
    """Return the parts of a trace context; None if the text is not valid."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    trace_id, span_id, flags = found.groups()
    is_sampled = bool(int(flags, 16) & 1)
    return TraceContext(traceparent_of(trace_id, span_id, is_sampled=is_sampled), trace_id, span_id, is_sampled)


def traceparent_of(trace_id: str, span_id: str, *, is_sampled: bool) -> str:
    """Return the trace context as text."""
    return f"00-{trace_id}-{span_id}-{'01' if is_sampled else '00'}"


_current: ContextVar[Span] = ContextVar("span", default=NO_SPAN)


# Returns the current span.
current_span: Callable[[], Span] = _current.get

# Makes the span current in this asyncio task, until `reset_current_span` or the end of the task.
set_current_span: Callable[[Span], Token[Span]] = _current.set

# Makes the previous span current again.
reset_current_span: Callable[[Token[Span]], None] = _current.reset
