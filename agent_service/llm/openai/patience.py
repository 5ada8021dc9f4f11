"""Timeouts of one request to a model."""

from __future__ import annotations

import asyncio
from typing import Any

from agent_service.llm.openai.errors import TIMED_OUT, Outcome

# After the finish reason, only the usage and the end of the stream are missing.
GRACE_S = 2.0


class Patience:
    """An `async with` block that ends in TimeoutError when the time of a request is over.

    A reply must begin within `first_token_s`, must then never be silent for `idle_s`, and must be complete within
    `total_s`, all counted from the beginning of the block. Once it has `finished`, its stream may stay open for
    GRACE_S.
    """

    def __init__(self, total_s: float, first_token_s: float, idle_s: float) -> None:
        self._total_s = total_s
        self._first_token_s = first_token_s
        self._idle_s = idle_s
        self._time = asyncio.get_running_loop().time
        self._ends_at = 0.0
        self._has_begun = False
        self._has_finished = False
        self._moves_at = 0.0
        self._scope = asyncio.timeout(None)  # replaced by a new timeout when the block begins

    async def __aenter__(self) -> None:
        now = self._time()
        self._ends_at = now + self._total_s
        self._scope = asyncio.timeout_at(min(self._ends_at, now + self._first_token_s))
        await self._scope.__aenter__()

    async def __aexit__(self, *exc_info: Any) -> None:
        await self._scope.__aexit__(*exc_info)

    def written(self) -> None:
        """Record that the model has written something."""
        now = self._time()
        if now < self._moves_at and not self._has_finished:
            return
        self._has_finished = False  # the reply continues after all
        # Moving a timer costs as much as reading a chunk: it moves in steps of a twentieth, and may fire that late.
        step_s = self._idle_s / 20
        self._moves_at = now + step_s
        self._has_begun = True
        self._scope.reschedule(min(self._ends_at, now + self._idle_s + step_s))

    def finished(self) -> None:
        """Record that the finish reason has arrived."""
        if not self._has_finished:
            self._has_finished = True
            self._scope.reschedule(min(self._ends_at, self._time() + min(self._idle_s, GRACE_S)))

    @property
    def is_over(self) -> bool:
        return self._scope.expired()

    def outcome(self) -> Outcome:
        if self._scope.when() == self._ends_at:
            words = f"the model did not finish within {self._total_s:g} s"
        elif self._has_begun:
            words = f"the model fell silent for {self._idle_s:g} s"
        else:
            words = f"the model wrote nothing within {self._first_token_s:g} s"
        return Outcome(TIMED_OUT.reason, words, retryable=True, is_worked_on=True)
