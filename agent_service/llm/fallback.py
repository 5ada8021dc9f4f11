"""Fallbacks: other models that are used when one gives no reply.

Each model has its own retries and its own breaker. Our own limits are not handled here: a request that they refuse or
delay is no outage and causes no fallback.

A silent model must not use up the task's time: with two models left, the first has a half of the remaining time to
begin a reply, with three a third.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agent_service.errors import LLMError
from agent_service.llm.base import Model, ModelObserver, ModelReply, ModelRequest
from agent_service.llm.token_counts import tokens_in, utf8_length
from agent_service.v1.error_reason_pb2 import ERROR_REASON_LLM_REJECTED, ERROR_REASON_LLM_TIMEOUT
from agent_service.v1.task_pb2 import Usage


class FallingBack:
    """A Model that calls several models in order until one replies. Tries are numbered across all of them."""

    def __init__(self, models: Sequence[Model]) -> None:
        self._others = tuple(models[:-1])
        self._last = models[-1]

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        """Call one model after the other until there is a reply, or no model is left.

        Raises:
            LLMError: of the last model; or the first LLM_REJECTED, because an invalid request is no outage. Exceptions
                of `observer.started` pass through.
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
    """Call a model, which must begin its reply within this share of the time left until the deadline.

    Raises:
        LLMError: of the model; or LLM_TIMEOUT, the reply has not begun.
    """
    if request.deadline is None:
        return await model.generate(request, counting)
    now = asyncio.get_running_loop().time()
    first_by = now + (request.deadline - now) * share
    patience = asyncio.timeout(None)
    try:
        async with patience:
            counting.has_patience(patience, request.deadline, share)
            return await model.generate(request._replace(first_by=first_by), counting)
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
    """The observer of a FallingBack model: numbers the tries of all its models consecutively."""

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
        """Set the timeout that ends the call if a reply has not begun within this share of the time left at the
        request.
        """
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
        """Cancel the timeout, because the reply has begun."""
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(None)
        # Later pieces go directly to the observer, without a call of ours in between.
        self.text, self.reasoning = self._observer.text, self._observer.reasoning

    async def failed(self, error: LLMError) -> None:
        self._begun()
        await self._observer.failed(error)

    def begin_anew(self) -> None:
        """Prepare for the next model, which counts its tries from 1."""
        self._before = self._newest
