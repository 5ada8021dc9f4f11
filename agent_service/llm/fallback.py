"""Fallbacks: other models that are asked where one gives no reply.

A model here is one with its own tries and its own breaker. Our own limits are not its business: what they refuse, or
make wait, is no outage, and no other model is asked because of it.

A model that writes nothing must not take all of the time that a task has: with two models left to ask, the first has a
half of what is left to begin a reply, with three a third.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from agent_service.errors import LLMError
from agent_service.llm.base import Model, ModelObserver, ModelReply, ModelRequest
from agent_service.llm.token_counts import tokens_in, utf8_length
from agent_service.v1.error_reason_pb2 import ERROR_REASON_LLM_REJECTED, ERROR_REASON_LLM_TIMEOUT
from agent_service.v1.task_pb2 import Usage


class FallingBack:
    """A Model that asks several, in order, until one replies. Its tries are counted over all of them."""

    def __init__(self, models: Sequence[Model]) -> None:
        self._others = tuple(models[:-1])
        self._last = models[-1]

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        """Ask until there is a reply, or no model left.

        Raises:
            LLMError: the last model's; or LLM_REJECTED, the first that there is: a request that is wrong for one model
                is no outage. What `observer.started` raises passes through.
        """
        counting = _Counting(observer)
        for others, model in zip(range(len(self._others), 0, -1), self._others, strict=True):
            try:
                return await _in_time(model, request, counting, 1 / (1 + others))
            except LLMError as error:
                if error.reason == ERROR_REASON_LLM_REJECTED:
                    raise
            counting.begin_anew()
        return await self._last.generate(request, counting)


async def _in_time(model: Model, request: ModelRequest, counting: _Counting, share: float) -> ModelReply:
    """Ask a model, which has that share of what is left of the deadline to begin its reply.

    Raises:
        LLMError: the model's; or LLM_TIMEOUT, it has not begun.
    """
    if request.deadline is None:
        return await model.generate(request, counting)
    now = asyncio.get_running_loop().time()
    first_by = now + (request.deadline - now) * share
    patience = asyncio.timeout(None)
    try:
        async with patience:
            counting.has_patience(patience, request.deadline, share)
            return await model.generate(replace(request, first_by=first_by), counting)
    except TimeoutError:
        if not patience.expired():
            raise
        read = tokens_in(sum(utf8_length(message.text) for message in request.messages))
        usage = Usage(input_tokens=read, estimated=True)
        error = LLMError(ERROR_REASON_LLM_TIMEOUT, "the model wrote nothing in time", retryable=True, usage=usage)
        await counting.failed(error)
        raise error from None
    finally:
        counting.has_patience(None)


class _Counting:
    """The observer of a FallingBack model: a try of any of its models has the next number."""

    __slots__ = (
        "_before",
        "_deadline",
        "_newest",
        "_observer",
        "_patience",
        "_share",
        "reasoning",
        "text",
        "traceparent",
    )

    def __init__(self, observer: ModelObserver) -> None:
        self._observer = observer
        self._before = 0
        self._newest = 0
        self._patience: asyncio.Timeout | None = None
        self._deadline = self._share = 0.0
        self.text = observer.text
        self.reasoning = observer.reasoning
        self.traceparent = observer.traceparent

    def has_patience(self, patience: asyncio.Timeout | None, deadline: float = 0.0, share: float = 0.0) -> None:
        """What ends the call where the reply to a request has not begun after that share of what is left then."""
        self._patience, self._deadline, self._share = patience, deadline, share

    async def started(self, model: str, try_number: int) -> None:
        await self._observer.started(model, self._before + try_number)
        self._newest = self._before + try_number
        if self._patience is not None:
            now = asyncio.get_running_loop().time()
            self._patience.reschedule(now + (self._deadline - now) * self._share)
            self.text, self.reasoning = self._first_text, self._first_reasoning

    def _first_text(self, text: str) -> None:
        self._begun()
        if text:
            self.text(text)

    def _first_reasoning(self, text: str) -> None:
        self._begun()
        self.reasoning(text)

    def _begun(self) -> None:
        """Nothing is waited for that has not begun."""
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(None)
        # Of every further piece: nothing may stand in its way.
        self.text, self.reasoning = self._observer.text, self._observer.reasoning

    async def failed(self, error: LLMError) -> None:
        self._begun()
        await self._observer.failed(error)

    def begin_anew(self) -> None:
        """The next model counts its tries from 1."""
        self._before = self._newest
