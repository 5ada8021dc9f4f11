"""Turns: asks a model for a reply, journals every request, reserves and settles its tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from hashlib import sha256
from itertools import count

from agent_service.engine.attempt.live_text import LiveText
from agent_service.engine.attempt.spans import begin_chat, end_chat
from agent_service.engine.attempt.task_budget import TaskBudget
from agent_service.engine.journal_writer import JournalWriter
from agent_service.engine.runtime import AgentRuntime, DrainedError, ModelPorts
from agent_service.engine.task.context_window import Fitted, Window
from agent_service.engine.task.state import FoldedTask
from agent_service.errors import InternalError, LLMError, RateLimitError, reason_name
from agent_service.limits.base import Charge, Reservation, Stage, Subject
from agent_service.llm.base import Message, ModelReply, ModelRequest
from agent_service.llm.token_counts import tokens_in, utf8_length
from agent_service.observe.trace import Span, current_span
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import ModelFailed, TaskEvent
from agent_service.v1.task_pb2 import WAIT_CAUSE_LIMIT, Failure, Usage
from agent_service.v1.tool_pb2 import ToolCall

# Clients in other languages receive at most 4 MiB, and a response may hold a reply twice.
REPLY_BYTES_MAX = 1024 * 1024
CALL_ID_LENGTH_MAX = 128
# A wait for a limit ends this long before the deadline, so that the task fails with the name of the limit instead of
# DEADLINE_EXCEEDED.
GIVE_UP_S = 0.1


class _Request:
    """A request to a provider that is under way: its reservation and its output so far. `model` is the model's key."""

    __slots__ = ("began_at", "first_text_at", "live", "model", "reasoning", "reservation", "span", "try_number")

    def __init__(self, model: str, try_number: int, reservation: Reservation, span: Span) -> None:
        self.model = model
        self.try_number = try_number
        self.reservation = reservation
        self.live: LiveText | None = None
        self.reasoning: LiveText | None = None
        self.span = span
        self.began_at = time.perf_counter()
        self.first_text_at = 0.0

    def end_live(self) -> None:
        """Publish the rest of the collected text and end it."""
        if self.reasoning is not None:
            self.reasoning.end()
        if self.live is not None:
            self.live.end()

    def usage_so_far(self, input_tokens: int) -> Usage:
        """Return the estimated usage if the request ends now."""
        text, reasoning = (tokens_in(live.written_bytes) if live else 0 for live in (self.live, self.reasoning))
        return Usage(
            input_tokens=input_tokens, output_tokens=text + reasoning, reasoning_tokens=reasoning, estimated=True
        )


class ModelTurns:
    """The turns of one attempt, one after the other, and the engine's ModelObserver for each.

    `ask` passes a request and itself to the model with its tries, fallbacks and breakers. Before each request to a
    provider the model calls `started`, which reserves quotas and journals the request; an exception there prevents the
    request. Then it calls `text` and `reasoning`, and `failed` if there is no reply.
    """

    def __init__(self, journal: JournalWriter, ports: ModelPorts, runtime: AgentRuntime, deadline: float) -> None:
        assert runtime.model is not None
        self._journal = journal
        self._folded = journal.folded
        self._ports = ports
        self._runtime = runtime
        self._model = runtime.model
        self._window = Window(runtime.model)
        self._budget = TaskBudget(journal.folded, runtime.prices, ports.budgets)
        self._deadline = deadline
        self._cache_key = _cache_key(journal.folded)
        self._turn = 0
        self._fitted = Fitted((), 0)
        self._request: _Request | None = None

    async def ask(self, messages: Sequence[Message], output_schema_json: str = "") -> None:
        """Get a reply and journal it.

        Raises:
            LLMError: there is no reply. RateLimitError, StateError: a limit does not admit the tokens in time.
            RateLimitError, TaskLimitError: BUDGET_EXHAUSTED.
        """
        runtime = self._runtime
        self._turn = self._folded.turns + 1
        self._fitted = self._window.fit(messages, runtime.tools_tokens, output_schema_json)
        model_request = ModelRequest(
            self._fitted.messages, runtime.tool_specs, self._deadline, output_schema_json, cache_key=self._cache_key
        )
        try:
            reply = await self._model.model.generate(model_request, self)
        except BaseException as error:
            if (request := self._request) is not None:
                self._write_failed(request, _why_it_broke_off(error), request.usage_so_far(self._fitted.tokens))
            raise
        request = self._request
        assert request is not None, "a model replies to what it has started"
        await self._ports.limiter.settle(
            request.reservation, tokens=reply.usage.input_tokens + reply.usage.output_tokens
        )
        if reply_bytes(reply) > REPLY_BYTES_MAX:
            message = f"the model's reply is longer than {REPLY_BYTES_MAX} bytes"
            too_long = LLMError(reasons.ERROR_REASON_LLM_REJECTED, message)
            self._write_failed(request, too_long.as_failure(), reply.usage)
            raise too_long
        self._request = None
        request.end_live()
        self._budget.spend(reply.usage)
        self._journal.write(self._replied(request, reply))
        self._report(request, "reply", reply.usage, reply)

    async def started(self, model: str, try_number: int) -> None:
        """See `ModelObserver.started`."""
        turn, runtime = self._turn, self._model.of(model)
        tokens = self._fitted.tokens + runtime.tokens_max
        cost = self._budget.check(model, input_tokens=self._fitted.tokens, output_tokens=runtime.tokens_max)
        submitted = self._folded.submitted
        charge = Charge(Subject(submitted.tenant, submitted.agent, model), Stage.ALL, model_calls=1, tokens=tokens)
        until = self._deadline - GIVE_UP_S if self._runtime.waits_for_limits else 0.0
        try:
            reservation = await self._ports.limiter.reserve_by(charge, until, self._waits_for)
        finally:
            if self._journal.waiting is not None:
                self._journal.end_wait(WAIT_CAUSE_LIMIT)
        try:
            if self._ports.budgets.configured:
                await self._budget.reserve()
            event = TaskEvent()
            started = event.model_started
            started.turn, started.try_number, started.model, started.tokens_reserved = turn, try_number, model, tokens
            if cost is not None:
                started.cost_nanos_reserved = cost
            self._journal.write(event)
            await self._journal.sync()
        except BaseException as error:
            # The request was never sent, so it used nothing.
            if self._folded.open_request is not None:
                failure = _why_it_broke_off(error)
                failed = ModelFailed(turn=turn, try_number=try_number, failure=failure)
                self._journal.write(TaskEvent(model_failed=failed))
            self._budget.release()
            await self._ports.limiter.refund(reservation)
            raise
        span = current_span()
        if span.is_recorded:
            shows_content = self._ports.telemetry.tracer.shows_content
            span = begin_chat(runtime, turn, try_number, self._fitted.messages, shows_content=shows_content)
        self._request = _Request(model, try_number, reservation, span)

    def text(self, text: str) -> None:
        """See `ModelObserver.text`."""
        request = self._request
        if text and request is not None:
            if not request.first_text_at:
                request.first_text_at = time.perf_counter()
            if request.reasoning is not None:
                # Keep the order in which the model wrote.
                request.reasoning.flush()
            if request.live is None:
                request.live = LiveText(self._journal, self._turn, request.try_number)
            request.live.add(text)

    def reasoning(self, text: str) -> None:
        """See `ModelObserver.reasoning`."""
        request = self._request
        if request is not None:
            if request.reasoning is None:
                request.reasoning = LiveText(self._journal, self._turn, request.try_number, is_reasoning=True)
            if request.live is not None:
                request.live.flush()
            request.reasoning.add(text)

    def traceparent(self) -> str:
        """See `ModelObserver.traceparent`."""
        return self._request.span.traceparent if self._request is not None else ""

    async def failed(self, error: LLMError) -> None:
        """See `ModelObserver.failed`."""
        request, usage = self._request, error.usage or Usage()
        assert request is not None, "only what was started fails"
        await self._ports.limiter.settle(request.reservation, tokens=usage.input_tokens + usage.output_tokens)
        self._write_failed(request, error.as_failure(), usage)

    def _write_failed(self, request: _Request, failure: Failure, usage: Usage) -> None:
        self._request = None
        request.end_live()
        self._budget.spend(usage)
        failed = ModelFailed(turn=self._turn, try_number=request.try_number, failure=failure, usage=usage)
        self._journal.write(TaskEvent(model_failed=failed))
        self._report(request, reason_name(failure.reason), usage)

    def _report(self, request: _Request, outcome: str, usage: Usage, reply: ModelReply | None = None) -> None:
        """Count, trace and log how a request ended."""
        telemetry, span, model = self._ports.telemetry, request.span, request.model
        metrics = telemetry.metrics
        metrics.model_requests(model, outcome).inc()
        input_tokens, output_tokens, cost = usage.input_tokens, usage.output_tokens, usage.cost_nanos / 1e9
        metrics.tokens(model, "input").inc(input_tokens)
        metrics.tokens(model, "output").inc(output_tokens)
        metrics.cost(model).inc(cost)
        metrics.tenant_used(self._folded.submitted.tenant, input_tokens + output_tokens, cost)
        took_s = time.perf_counter() - request.began_at
        metrics.model_seconds(model).observe(took_s, span.exemplar)
        first_text_s = request.first_text_at - request.began_at if request.first_text_at else 0.0
        if first_text_s:
            metrics.first_token_seconds(model).observe(first_text_s, span.exemplar)
        if request.try_number > 1:
            metrics.model_retries(model).inc()
        fields = {
            "task_id": self._journal.task_id,
            "model": model,
            "turn": self._turn,
            "try": request.try_number,
            "outcome": outcome,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "duration_ms": round(took_s * 1000, 1),
            **span.ids,
        }
        if reply is not None:
            fields |= reply.remarks
        telemetry.log.write("INFO" if outcome == "reply" else "WARNING", "model_request", fields)
        end_chat(span, outcome, usage, reply, first_text_s, shows_content=telemetry.tracer.shows_content)

    def _waits_for(self, full: RateLimitError) -> None:
        if self._ports.drain.has_begun:
            # No request is under way, so there is nothing to finish in this process.
            raise DrainedError
        self._journal.flush()
        self._journal.begin_wait(
            WAIT_CAUSE_LIMIT, full.message, rule=full.rule, retry_after_s=full.retry_after_s or 0.0
        )

    def _replied(self, request: _Request, reply: ModelReply) -> TaskEvent:
        event = TaskEvent()
        replied = event.model_replied
        replied.turn, replied.try_number = self._turn, request.try_number
        replied.text = reply.text
        if reply.tool_calls:
            replied.tool_calls.extend(unique_calls(reply.tool_calls, self._folded.call_ids, self._turn))
        replied.finish_reason = reply.finish_reason
        replied.usage.CopyFrom(reply.usage)
        replied.provider_model = reply.provider_model
        replied.provider_state = reply.provider_state
        return event


def _cache_key(folded: FoldedTask) -> str:
    """Return the provider's cache key: one per session and tenant; without a session, one per task."""
    submitted = folded.submitted
    name = f"{submitted.tenant}\n{submitted.session_id}" if submitted.session_id else folded.task.id
    return sha256(name.encode()).hexdigest()[:32]


def _why_it_broke_off(error: BaseException) -> Failure:
    """Return the journaled failure of a request that ended without a reply and without an error of the provider."""
    return _stopped() if isinstance(error, asyncio.CancelledError) else InternalError().as_failure()


def _stopped() -> Failure:
    return Failure(reason=reasons.ERROR_REASON_STOPPED, message="the task was stopped")


def reply_bytes(reply: ModelReply) -> int:
    """Return the size of a reply's text and arguments in UTF-8 bytes."""
    size = utf8_length(reply.text)
    for call in reply.tool_calls:
        size += utf8_length(call.arguments_json)
    return size


def unique_calls(calls: Sequence[ToolCall], taken: set[str], turn: int) -> Sequence[ToolCall]:
    """Give each call an id that is unique in the task. Providers repeat ids; the journal identifies calls by id."""
    seen = set[str]()
    given = {call.id for call in calls}
    for index, call in enumerate(calls):
        if not call.id or call.id in taken or call.id in seen or len(call.id) > CALL_ID_LENGTH_MAX:
            made = (f"call_{turn}_{number}" for number in count(index))
            call.id = next(new for new in made if new not in taken and new not in seen and new not in given)
        seen.add(call.id)
    return calls
