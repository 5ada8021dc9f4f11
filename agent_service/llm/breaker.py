"""A circuit breaker: stops requests to a failing model, so that callers do not wait for it in vain.

It depends on the outcomes of requests, not on their content: `Breaking` asks it before each request and reports the
outcome after. `fallback` skips a model whose circuit is open; without a fallback, `retry` waits for the circuit.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from agent_service.errors import LLMError
from agent_service.llm.base import Model, ModelObserver, ModelReply, ModelRequest
from agent_service.v1.error_reason_pb2 import (
    ERROR_REASON_LLM_RATE_LIMITED,
    ERROR_REASON_LLM_TIMEOUT,
    ERROR_REASON_LLM_UNAVAILABLE,
)

# The reasons that count as failures of the provider. The rest (a rejected key or request) are answers.
_FAILURES = frozenset({ERROR_REASON_LLM_UNAVAILABLE, ERROR_REASON_LLM_TIMEOUT, ERROR_REASON_LLM_RATE_LIMITED})


class Circuit(IntEnum):
    """The state of a breaker: it admits all requests, one probe, or none. The numbers are the metric's values."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class CircuitOpenError(LLMError):
    """The request was not sent, because too many recent ones failed. `retry_after_s` is the time to the next probe."""

    def __init__(self, retry_after_s: float) -> None:
        message = "the request was not sent to the model: too many of its recent requests failed"
        super().__init__(ERROR_REASON_LLM_UNAVAILABLE, message, retryable=True, retry_after_s=retry_after_s)


@dataclass(slots=True)
class _Second:
    """The outcomes of the requests that ended in one second."""

    at: int
    requests: int = 0
    failures: int = 0


class CircuitBreaker:
    """Opens when half of the requests of the last WINDOW_S failed, and at least REQUESTS_MIN ended in it.

    Stays open for OPEN_S, then admits one request as a probe: its success closes the circuit, its failure opens it
    again. A probe that takes longer than OPEN_S (it may wait for one of our limits first) does not block the next
    probe. Requests that ended at their caller's deadline may count too, see `gave_up`; requests that began before the
    last change of the circuit do not. `on_change` is called when the circuit opens or closes, not for probes.
    """

    WINDOW_S = 10
    REQUESTS_MIN = 5
    FAILURES_SHARE = 0.5
    OPEN_S = 5.0
    # The `retry_after_s` while a probe is under way.
    PROBING_S = 1.0
    # A request that its caller's deadline ended sooner than this does not count.
    SILENCE_MIN_S = 0.25
    # A timer may seem to fire this much early.
    EARLY_S = 0.05

    def __init__(
        self, *, on_change: Callable[[Circuit], object] = lambda _: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._on_change = on_change
        self.clock = clock
        self._seconds: deque[_Second] = deque()
        self._opened_at: float | None = None
        self._probing_until = 0.0
        self._heard_at = -math.inf
        self._changes = 0

    @property
    def circuit(self) -> Circuit:
        """The current state."""
        if self._opened_at is None:
            return Circuit.CLOSED
        return Circuit.OPEN if self.clock() < self._opened_at + self.OPEN_S else Circuit.HALF_OPEN

    def enter(self) -> int:
        """Admit a request and return its ticket. Pass the ticket to one of the methods below when the request has
        ended.

        Raises:
            CircuitOpenError: the request must not be sent now.
        """
        if self._opened_at is not None:
            now = self.clock()
            left_s = self._opened_at + self.OPEN_S - now
            if left_s > 0 or now < self._probing_until:
                raise CircuitOpenError(max(left_s, self.PROBING_S))
            self._probing_until = now + self.OPEN_S
        return self._changes

    def succeeded(self, ticket: int) -> None:
        """Record that the request got its reply."""
        self.heard()
        if ticket != self._changes:
            return
        if self._opened_at is None:
            self._count(is_failure=False)
        else:
            self._change(None)

    def failed(self, ticket: int, error: LLMError) -> None:
        """Record that the request got no reply."""
        if error.reason not in _FAILURES:
            # The provider answered: that closes the circuit, and does not count where it is closed already.
            if self._opened_at is not None:
                self.succeeded(ticket)
            return
        if ticket != self._changes:
            return
        if self._opened_at is not None or self._count(is_failure=True):
            self._change(self.clock())

    def heard(self) -> None:
        """Record that part of a reply has arrived."""
        self._heard_at = self.clock()

    def gave_up(self, ticket: int, *, began_at: float, due_at: float) -> None:
        """Record that the request was cancelled before any part of a reply arrived. It counts as failed if its time was
        over, at `due_at`, and no other request has received anything since it began. So callers with short deadlines
        do not open the circuit of a slow model that works.
        """
        now = self.clock()
        is_over = now + self.EARLY_S >= due_at and now - began_at >= self.SILENCE_MIN_S
        if is_over and self._heard_at < began_at:
            self.failed(ticket, LLMError(ERROR_REASON_LLM_TIMEOUT, "the model wrote nothing in time", retryable=True))
        else:
            self.withdrawn(ticket)

    def withdrawn(self, ticket: int) -> None:
        """Record that the request was abandoned and has no outcome."""
        if ticket == self._changes:
            self._probing_until = 0.0

    def _count(self, *, is_failure: bool) -> bool:
        """Count a request. Return whether the circuit must open."""
        now = int(self.clock())
        seconds = self._seconds
        while seconds and seconds[0].at <= now - self.WINDOW_S:
            seconds.popleft()
        if not seconds or seconds[-1].at != now:
            seconds.append(_Second(now))
        seconds[-1].requests += 1
        if not is_failure:
            return False
        seconds[-1].failures += 1
        requests = sum(second.requests for second in seconds)
        failures = sum(second.failures for second in seconds)
        return requests >= self.REQUESTS_MIN and failures >= requests * self.FAILURES_SHARE

    def _change(self, opened_at: float | None) -> None:
        was_open = self._opened_at is not None
        self._opened_at = opened_at
        self._probing_until = 0.0
        self._changes += 1
        self._seconds.clear()
        if was_open != (opened_at is not None):
            self._on_change(self.circuit)


class Breaking:
    """A Model that wraps another and asks a breaker before each request that the other is about to send."""

    def __init__(self, model: Model, breaker: CircuitBreaker) -> None:
        self._model = model
        self._breaker = breaker

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        """Call the wrapped model.

        Raises:
            CircuitOpenError: a request must not be sent now, the first or a later try. LLMError: of the wrapped model.
        """
        gate = _Gate(observer, self._breaker)
        try:
            reply = await self._model.generate(request, gate)
        except asyncio.CancelledError:
            gate.give_up(min(request.deadline or math.inf, request.first_by or math.inf))
            raise
        except BaseException:
            gate.withdraw()
            raise
        gate.replied()
        return reply


class _Gate:
    """The observer of a Breaking model: asks the breaker before each request."""

    __slots__ = ("_breaker", "_observer", "_silent_since", "_ticket", "reasoning", "text", "traceparent")

    def __init__(self, observer: ModelObserver, breaker: CircuitBreaker) -> None:
        self._observer = observer
        self._breaker = breaker
        self._ticket: int | None = None
        self._silent_since: float | None = None
        self.text = observer.text
        self.reasoning = observer.reasoning
        self.traceparent = observer.traceparent

    async def started(self, model: str, try_number: int) -> None:
        self._silent_since = None
        self._ticket = self._breaker.enter()
        await self._observer.started(model, try_number)
        self._silent_since = self._breaker.clock()
        self.text, self.reasoning = self._first_text, self._first_reasoning

    def _first_text(self, text: str) -> None:
        self._observer.text(text)
        self._begun()

    def _first_reasoning(self, text: str) -> None:
        self._observer.reasoning(text)
        self._begun()

    def _begun(self) -> None:
        self._silent_since = None
        self._breaker.heard()
        # Later pieces go directly to the observer, without a call of ours in between.
        self.text, self.reasoning = self._observer.text, self._observer.reasoning

    async def failed(self, error: LLMError) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self._breaker.failed(ticket, error)
        await self._observer.failed(error)

    def replied(self) -> None:
        if self._ticket is not None:
            self._breaker.succeeded(self._ticket)

    def give_up(self, due_at: float) -> None:
        if self._ticket is not None and self._silent_since is not None:
            self._breaker.gave_up(self._ticket, began_at=self._silent_since, due_at=due_at)
        else:
            self.withdraw()

    def withdraw(self) -> None:
        if self._ticket is not None:
            self._breaker.withdrawn(self._ticket)
