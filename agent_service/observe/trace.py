"""Spans: what was done, for how long, as part of what. Knows no vendor: `otel` records them, and nothing does here.

A span that nobody records costs a look at it. The W3C trace context (`traceparent`) goes with whatever belongs to a
trace: into the journal, to providers, to tools, into log lines.
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
    """Whose side of what: of a call that came in, of one that goes out, of neither."""

    SERVER = "server"
    CLIENT = "client"
    INTERNAL = "internal"


class Span:
    """One that nobody records; those that somebody does override all of it."""

    # Whether anybody will see it: else there is no need to gather attributes.
    is_recorded = False
    # The W3C trace context for whatever is done within it; empty outside of a trace.
    traceparent = ""
    # `trace_id` and `span_id`, as log lines have them.
    ids: Mapping[str, str] = NO_IDS
    # What a metric shows beside a number: the `ids` of a trace that can be looked at.
    exemplar: Mapping[str, str] | None = None

    def child(self, name: str, kind: Kind, attributes: Attributes) -> Span:
        """Begin a part of it."""
        return self

    def set(self, attributes: Attributes) -> None:
        """What became known meanwhile."""

    def link(self, traceparent: str) -> None:
        """It has to do with that one, which is no part of it nor the other way round."""

    def end(self, error: str = "") -> None:
        """It is over; `error` names the kind of a failure. Once."""

    def active(self) -> AbstractContextManager[None]:
        """While this is entered, log lines, and the code of tools, find themselves within the span."""
        return _NOTHING


NO_SPAN = Span()


class PassedOn(Span):
    """A trace that the caller began and that is not sampled: what is done for it names it all the same."""

    def __init__(self, context: TraceContext) -> None:
        self.traceparent = context.traceparent
        self.ids = {"trace_id": context.trace_id, "span_id": context.span_id}


class Tracer(Protocol):
    """Begins spans. `shows_content` says whether prompts, arguments and results may stand in them."""

    shows_content: bool

    def call(self, name: str, traceparent: str, attributes: Attributes) -> Span:
        """A call came in, with this trace context or an empty one; whether it is sampled is decided here."""

    def within(self, traceparent: str, name: str, attributes: Attributes) -> Span:
        """Work for what was decided about before, maybe in another process; not recorded if that was not sampled."""


class NoTracer:
    """The Tracer of those who want none."""

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
    """How many of the traces that begin here are sampled, 0 to 1, and whether those that a caller began are as the
    caller decided.
    """

    ratio: float
    follows_parent: bool = True

    def takes(self, parent: TraceContext | None) -> bool:
        if parent is None:
            return self.ratio > 0 and random.random() < self.ratio  # noqa: S311 - it guards nothing
        if self.follows_parent:
            return parent.is_sampled
        return int(parent.trace_id[16:], 16) < self.ratio * 2**64


# https://www.w3.org/TR/trace-context/#traceparent-header: what a later version appends is left out.
_TRACEPARENT = re.compile(
    r"(?:00(?=.{53}$)|(?!00|ff)[0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)


def parse(traceparent: str) -> TraceContext | None:
    """None if it is none: then there is no trace yet."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    trace_id, span_id, flags = found.groups()
    is_sampled = bool(int(flags, 16) & 1)
    return TraceContext(traceparent_of(trace_id, span_id, is_sampled=is_sampled), trace_id, span_id, is_sampled)


def traceparent_of(trace_id: str, span_id: str, *, is_sampled: bool) -> str:
    """As it is sent."""
    return f"00-{trace_id}-{span_id}-{'01' if is_sampled else '00'}"


_current: ContextVar[Span] = ContextVar("span", default=NO_SPAN)


# Return the span that this code runs within.
current_span: Callable[[], Span] = _current.get

# What follows in this asyncio task runs within the span, until `reset_current_span` or to its end.
set_current_span: Callable[[Span], Token[Span]] = _current.set

# What follows runs within the span before again.
reset_current_span: Callable[[Token[Span]], None] = _current.reset
