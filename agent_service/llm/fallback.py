"""Fallbacks: other models that are asked where one gives no reply.

A model here is one with its own tries and its own breaker. Our own limits are not its business: what they refuse, or
make wait, is no outage, and no other model is asked because of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent_service.errors import LLMError
from agent_service.llm.base import Model, ModelObserver, ModelReply, ModelRequest
from agent_service.v1.error_reason_pb2 import ERROR_REASON_LLM_REJECTED


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
        for model in self._others:
            try:
                return await model.generate(request, counting)
            except LLMError as error:
                if error.reason == ERROR_REASON_LLM_REJECTED:
                    raise
            counting.begin_anew()
        return await self._last.generate(request, counting)


class _Counting:
    """The observer of a FallingBack model: a try of any of its models has the next number."""

    __slots__ = ("_before", "_newest", "_observer", "failed", "reasoning", "text", "traceparent")

    def __init__(self, observer: ModelObserver) -> None:
        self._observer = observer
        self._before = 0
        self._newest = 0
        # Of every piece of text: nothing may stand in its way.
        self.text = observer.text
        self.reasoning = observer.reasoning
        self.failed = observer.failed
        self.traceparent = observer.traceparent

    async def started(self, model: str, try_number: int) -> None:
        await self._observer.started(model, self._before + try_number)
        self._newest = self._before + try_number

    def begin_anew(self) -> None:
        """The next model counts its tries from 1."""
        self._before = self._newest
