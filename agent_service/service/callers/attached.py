"""Who waits for which task: its Run and Stream calls and their repetitions. Once the last one goes, CANCEL has effect.

Watchers are no callers. Nobody waits for a task that was detached, or that has waited for input: it ends by itself.
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
    """Cancels a task that has lost its last caller here."""

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
        """While a caller waits for the task. One that is thrown out has not been told what became of it."""
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
        """While it is found out whether a caller may attend the task; it is not given up meanwhile."""
        self._arriving[task_id] += 1
        try:
            yield
        finally:
            self._arriving[task_id] -= 1
            if not self._arriving[task_id]:
                del self._arriving[task_id]

    def has(self, task_id: str) -> bool:
        """Return whether the task has callers here, or may be about to."""
        return task_id in self._counts or task_id in self._arriving

    def left_before_accepted(self, task_id: str, submitted: TaskSubmitted) -> None:
        """A caller went away before its task was accepted, which it may be all the same."""
        if submitted.on_disconnect != ON_DISCONNECT_DETACH and not self.has(task_id):
            self._lost_last_caller(task_id, submitted)

    def _lost_last_caller(self, task_id: str, submitted: TaskSubmitted) -> None:
        # With a request_id its repetition may be on its way.
        has_repetitions = bool(submitted.request_id)
        self._abandon_after(task_id, self._grace_s if has_repetitions else 0.0, check_elsewhere=has_repetitions)

    def expect_return(self, task_id: str) -> None:
        """A task that needs a caller has none that is known: one has `comeback_s` to come."""
        if not self.has(task_id) and task_id not in self._timers:
            self._abandon_after(task_id, self._comeback_s, check_elsewhere=True)

    def note_caller_elsewhere(self, task_id: str) -> None:
        """The task has callers at another process, which sees to it once they have left."""
        self._stop_timer(task_id)

    def attached(self) -> Set[str]:
        """The tasks that have callers here."""
        return self._counts.keys()

    def close(self) -> None:
        """A shutdown is no reason to cancel."""
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
    """Return whether the task ends when nobody waits for it."""
    if folded.is_terminal or folded.inputs_asked:
        return False
    return folded.submitted.on_disconnect != ON_DISCONNECT_DETACH
