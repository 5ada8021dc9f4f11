"""One turn: asks the model for a reply, journals every request, reserves and settles its tokens."""

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
from agent_service.engine.runtime import DrainedError, ModelRuntime, Ports
from agent_service.engine.task.context_window import Window
from agent_service.engine.task.state import FoldedTask
from agent_service.errors import InternalError, LLMError, RateLimitError, reason_name
from agent_service.limits.base import Charge, Reservation, Stage, Subject
from agent_service.llm.base import Message, ModelReply, ModelRequest, ToolSpec
from agent_service.llm.token_counts import tokens_in, utf8_length
from agent_service.observe.trace import NO_SPAN
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import ModelFailed, ModelReplied, ModelStarted, TaskEvent
from agent_service.v1.task_pb2 import WAIT_CAUSE_LIMIT, Failure, Usage
from agent_service.v1.tool_pb2 import ToolCall

# Clients in other languages receive 4 MiB at most, and a reply may stand in a response twice.
REPLY_BYTES_MAX = 1024 * 1024
CALL_ID_LENGTH_MAX = 128
# Who waits for a limit gives up so long before the deadline: the task then fails with the limit's name, and not with
# the deadline's.
GIVE_UP_S = 0.1


class ModelTurn:
    """The engine's ModelObserver for one turn."""

    def __init__(
        self,
        journal: JournalWriter,
        ports: Ports,
        model: ModelRuntime,
        window: Window,
        budget: TaskBudget,
        deadline: float,
        *,
        waits_for_limits: bool = True,
    ) -> None:
        self._journal = journal
        self._folded = journal.folded
        self._ports = ports
        self._model = model
        self._window = window
        self._budget = budget
        self._deadline = deadline
        self._waits_for_limits = waits_for_limits
        self._turn = journal.folded.turns + 1
        self._asked = model.key
        self._try = 0
        self._began_at = 0.0
        self._first_text_at = 0.0
        self._input_tokens = 0
        self._reservation: Reservation | None = None
        self._live: LiveText | None = None
        self._reasoning: LiveText | None = None
        self._span = NO_SPAN
        self._shows_content = ports.tracer.shows_content
        self._messages: Sequence[Message] = ()

    async def ask(self, messages: Sequence[Message], tools: Sequence[ToolSpec], output_schema_json: str = "") -> None:
        """Ask until there is a reply, and write it down.

        Raises:
            LLMError: there is none. RateLimitError, StateError: the tokens are not to be had in time. RateLimitError,
            TaskLimitError: BUDGET_EXHAUSTED.
        """
        fitted = self._window.fit(messages, tools, output_schema_json)
        self._input_tokens, self._messages = fitted.tokens, fitted.messages
        request = ModelRequest(
            fitted.messages, tools, self._deadline, output_schema_json, cache_key=_cache_key(self._folded)
        )
        try:
            reply = await self._model.model.generate(request, self)
        except BaseException as error:
            if self._live is not None:
                self._write_failed(_why_it_broke_off(error), self._usage_so_far())
            raise
        await self._settle(reply.usage)
        if reply_bytes(reply) > REPLY_BYTES_MAX:
            message = f"the model's reply is longer than {REPLY_BYTES_MAX} bytes"
            too_long = LLMError(reasons.ERROR_REASON_LLM_REJECTED, message)
            self._write_failed(too_long.as_failure(), reply.usage)
            raise too_long
        self._end_live_text()
        self._budget.spend(reply.usage)
        self._journal.write(TaskEvent(model_replied=self._replied(reply)))
        self._tell("reply", reply.usage, reply)

    async def started(self, model: str, try_number: int) -> None:
        tokens_max = self._model.of(model).tokens_max
        tokens = self._input_tokens + tokens_max
        cost = self._budget.check(model, input_tokens=self._input_tokens, output_tokens=tokens_max)
        self._reservation = await self._reserve(model, tokens)
        try:
            await self._budget.reserve()
            self._asked, self._try = model, try_number
            started = ModelStarted(turn=self._turn, try_number=try_number, model=model, tokens_reserved=tokens)
            if cost is not None:
                started.cost_nanos_reserved = cost
            self._journal.write(TaskEvent(model_started=started))
            await self._journal.sync()
        except BaseException as error:
            # Never sent, so never used.
            if self._folded.open_request is not None:
                failure = _why_it_broke_off(error)
                failed = ModelFailed(turn=self._turn, try_number=try_number, failure=failure)
                self._journal.write(TaskEvent(model_failed=failed))
            self._budget.release()
            await self._ports.limiter.refund(self._reservation)
            raise
        self._began_at, self._first_text_at = time.perf_counter(), 0.0
        self._live = LiveText(self._journal, self._turn, try_number)
        self._span = begin_chat(
            self._model.of(model), self._turn, try_number, self._messages, shows_content=self._shows_content
        )

    def text(self, text: str) -> None:
        if text and self._live is not None:
            if not self._first_text_at:
                self._first_text_at = time.perf_counter()
            if self._reasoning is not None:
                # What was written first is shown first.
                self._reasoning.flush()
            self._live.add(text)

    def reasoning(self, text: str) -> None:
        if self._live is not None:
            if self._reasoning is None:
                self._reasoning = LiveText(self._journal, self._turn, self._try, is_reasoning=True)
            self._live.flush()
            self._reasoning.add(text)

    def traceparent(self) -> str:
        return self._span.traceparent

    async def failed(self, error: LLMError) -> None:
        await self._settle(error.usage or Usage())
        self._write_failed(error.as_failure(), error.usage or Usage())

    def _write_failed(self, failure: Failure, usage: Usage) -> None:
        self._end_live_text()
        self._budget.spend(usage)
        failed = ModelFailed(turn=self._turn, try_number=self._try, failure=failure, usage=usage)
        self._journal.write(TaskEvent(model_failed=failed))
        self._tell(reason_name(failure.reason), usage)

    def _tell(self, outcome: str, usage: Usage, reply: ModelReply | None = None) -> None:
        """Count, trace and log how a request ended."""
        metrics, span = self._ports.metrics, self._span
        metrics.model_requests(self._asked, outcome).inc()
        metrics.tokens(self._asked, "input").inc(usage.input_tokens)
        metrics.tokens(self._asked, "output").inc(usage.output_tokens)
        cost = usage.cost_nanos / 1e9
        metrics.cost(self._asked).inc(cost)
        metrics.tenant_used(self._folded.submitted.tenant, usage.input_tokens + usage.output_tokens, cost)
        took_s = time.perf_counter() - self._began_at
        metrics.model_seconds(self._asked).observe(took_s, span.exemplar)
        first_text_s = self._first_text_at - self._began_at if self._first_text_at else 0.0
        if first_text_s:
            metrics.first_token_seconds(self._asked).observe(first_text_s, span.exemplar)
        if self._try > 1:
            metrics.model_retries(self._asked).inc()
        fields = {
            "task_id": self._journal.task_id,
            "model": self._asked,
            "turn": self._turn,
            "try": self._try,
            "outcome": outcome,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "duration_ms": round(took_s * 1000, 1),
            **span.ids,
        }
        if reply is not None:
            fields |= reply.remarks
        self._ports.log.write("INFO" if outcome == "reply" else "WARNING", "model_request", fields)
        end_chat(span, outcome, usage, reply, first_text_s, shows_content=self._shows_content)

    def _end_live_text(self) -> None:
        for live in (self._reasoning, self._live):
            if live is not None:
                live.end()
        self._live = self._reasoning = None

    def _usage_so_far(self) -> Usage:
        assert self._live is not None
        reasoning = tokens_in(self._reasoning.written_bytes) if self._reasoning is not None else 0
        written = tokens_in(self._live.written_bytes) + reasoning
        return Usage(input_tokens=self._input_tokens, output_tokens=written, reasoning_tokens=reasoning, estimated=True)

    async def _reserve(self, model: str, tokens: int) -> Reservation:
        """Reserve, in its turn, waiting while the limit is full and the deadline leaves time."""
        subject = Subject(self._folded.submitted.tenant, self._folded.submitted.agent, model)
        charge = Charge(subject, Stage.ALL, model_calls=1, tokens=tokens)
        until = self._deadline - GIVE_UP_S if self._waits_for_limits else 0.0
        try:
            return await self._ports.limiter.reserve_by(charge, until, self._waits_for)
        finally:
            if self._journal.waiting is not None:
                self._journal.goes_on(WAIT_CAUSE_LIMIT)

    def _waits_for(self, full: RateLimitError) -> None:
        if self._ports.drain.has_begun:
            # Nothing is under way that this process could bring to its end.
            raise DrainedError
        self._journal.flush()
        self._journal.waits(WAIT_CAUSE_LIMIT, full.message, rule=full.rule, retry_after_s=full.retry_after_s or 0.0)

    async def _settle(self, usage: Usage) -> None:
        if self._reservation is None:
            return
        reservation, self._reservation = self._reservation, None
        await self._ports.limiter.settle(reservation, tokens=usage.input_tokens + usage.output_tokens)

    def _replied(self, reply: ModelReply) -> ModelReplied:
        return ModelReplied(
            turn=self._turn,
            try_number=self._try,
            text=reply.text,
            tool_calls=unique_calls(reply.tool_calls, self._folded.call_ids, self._turn),
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            provider_model=reply.provider_model,
            provider_state=reply.provider_state,
        )


def _cache_key(folded: FoldedTask) -> str:
    """The same for all requests of a session, and for no other tenant's; without a session, for those of the task."""
    submitted = folded.submitted
    name = f"{submitted.tenant}\n{submitted.session_id}" if submitted.session_id else folded.task.id
    return sha256(name.encode()).hexdigest()[:32]


def _why_it_broke_off(error: BaseException) -> Failure:
    """What is journaled of a request that neither got its reply nor an error of its own."""
    return _stopped() if isinstance(error, asyncio.CancelledError) else InternalError().as_failure()


def _stopped() -> Failure:
    return Failure(reason=reasons.ERROR_REASON_STOPPED, message="the task was stopped")


def reply_bytes(reply: ModelReply) -> int:
    """What a reply takes in events and in answers."""
    return utf8_length(reply.text) + sum(utf8_length(call.arguments_json) for call in reply.tool_calls)


def unique_calls(calls: Sequence[ToolCall], taken: set[str], turn: int) -> Sequence[ToolCall]:
    """The calls with ids that no other call of the task has: providers repeat theirs, and a ledger must not."""
    seen = set[str]()
    given = {call.id for call in calls}
    for index, call in enumerate(calls):
        if not call.id or call.id in taken or call.id in seen or len(call.id) > CALL_ID_LENGTH_MAX:
            made = (f"call_{turn}_{number}" for number in count(index))
            call.id = next(one for one in made if one not in taken and one not in seen and one not in given)
        seen.add(call.id)
    return calls
