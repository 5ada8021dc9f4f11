"""The callers attached to each task: its Run and Stream calls and their repetitions. When the last one leaves, the task
is canceled if its `on_disconnect` is CANCEL.

Watchers do not count as callers. A task that was detached, or that has waited for input, needs no callers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from agent_service.engine.task.state import FoldedTask
from agent_service.service.accepted import Accepted
from agent_service.v1.task_event_pb2 import TaskSubmitted
from agent_service.v1.task_pb2 import ON_DISCONNECT_DETACH


class Abandon(Protocol):
    """Cancels a task whose last caller in this process has left."""

    def __call__(self, task_id: str, has_callers: Callable[[], bool], *, check_elsewhere: bool) -> None:
        """See `Abandonment.abandon`."""


class Callers:
    """Counts the callers that each task has in this process, and abandons a task that has none left."""

    def __init__(self, abandon: Abandon, *, reattach_grace_s: float, comeback_s: float) -> None:
        self._abandon = abandon
        self._grace_s = reattach_grace_s
        self._comeback_s = comeback_s
        self._counts: Counter[str] = Counter()
        self._arriving: Counter[str] = Counter()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._is_closed = False

    @contextmanager
    def attach(self, accepted: Accepted) -> Iterator[None]:
        """Attach a caller to the task. A caller that leaves by an exception has not received a result."""
        if accepted.submitted.on_disconnect == ON_DISCONNECT_DETACH or accepted.is_settled:
            yield
            return
        task_id = accepted.task_id
        self._stop_timer(task_id)
        self._counts[task_id] += 1
        has_outcome = False
        try:
            yield
            has_outcome = True
        finally:
            self._counts[task_id] -= 1
            if not self._counts[task_id]:
                del self._counts[task_id]
                if not has_outcome and not accepted.is_settled:
                    self._lost_last_caller(task_id, accepted.submitted)

    @contextmanager
    def arriving(self, task_id: str) -> Iterator[None]:
        """Keep the task from being abandoned while the request of a possible caller is checked."""
        self._arriving[task_id] += 1
        try:
            yield
        finally:
            self._arriving[task_id] -= 1
            if not self._arriving[task_id]:
                del self._arriving[task_id]

    def has(self, task_id: str) -> bool:
        """Return whether the task has callers here, or possible callers that are being checked."""
        return task_id in self._counts or task_id in self._arriving

    def left_before_accepted(self, task_id: str, submitted: TaskSubmitted) -> None:
        """Handle a caller that left before its task was accepted. The task may be stored nevertheless."""
        if submitted.on_disconnect != ON_DISCONNECT_DETACH and not self.has(task_id):
            self._lost_last_caller(task_id, submitted)

    def _lost_last_caller(self, task_id: str, submitted: TaskSubmitted) -> None:
        # With a request_id, a repetition may follow.
        has_repetitions = bool(submitted.request_id)
        self._abandon_after(task_id, self._grace_s if has_repetitions else 0.0, check_elsewhere=has_repetitions)

    def expect_return(self, task_id: str) -> None:
        """Start the timer of a task that needs a caller and has no known one: a caller has `comeback_s` to attach."""
        if not self.has(task_id) and task_id not in self._timers:
            self._abandon_after(task_id, self._comeback_s, check_elsewhere=True)

    def note_caller_elsewhere(self, task_id: str) -> None:
        """Stop the timer of a task with callers at another process. That process cancels it once they have left."""
        self._stop_timer(task_id)

    def attached(self) -> Set[str]:
        """Return the tasks that have callers here."""
        return self._counts.keys()

    def close(self) -> None:
        """Stop abandoning tasks: a shutdown must not cancel them."""
        self._is_closed = True
        for task_id in list(self._timers):
            self._stop_timer(task_id)

    def _abandon_after(self, task_id: str, grace_s: float, *, check_elsewhere: bool) -> None:
        if self._is_closed:
            return
        if not grace_s:
            self._abandon(task_id, partial(self.has, task_id), check_elsewhere=check_elsewhere)
            return
        self._stop_timer(task_id)
        self._timers[task_id] = asyncio.get_running_loop().call_later(grace_s, self._give_up, task_id, check_elsewhere)

    def _give_up(self, task_id: str, check_elsewhere: bool) -> None:
        self._timers.pop(task_id, None)
        self._abandon(task_id, partial(self.has, task_id), check_elsewhere=check_elsewhere)

    def _stop_timer(self, task_id: str) -> None:
        timer = self._timers.pop(task_id, None)
        if timer is not None:
            timer.cancel()


def needs_caller(folded: FoldedTask) -> bool:
    """Return whether the task is canceled when it has no callers."""
    if folded.is_terminal or folded.inputs_asked:
        return False
    return folded.submitted.on_disconnect != ON_DISCONNECT_DETACH
