"""The causes that tasks wait for besides input: a limit, their session, a slot, the store.

Waits are kept only in the memory of this process; a task that does not wait pays nothing. Once a second, the waits that
already existed a second ago are logged and sent to the watchers; shorter ones are not reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from agent_service.engine.dispatch.base import LineView
from agent_service.engine.dispatch.running_task import RunningTask
from agent_service.engine.journal_writer import STORE_AWAY
from agent_service.feed.base import Feed
from agent_service.observe.log import EventLog
from agent_service.text.enum_names import short_name
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import (
    WAIT_CAUSE_LIMIT,
    WAIT_CAUSE_SESSION,
    WAIT_CAUSE_SLOT,
    WAIT_CAUSE_STORE,
    WaitCause,
    Waiting,
)

# Waits that are logged and sent in one round; the others follow a second later.
REPORTED_MAX = 1000
MESSAGES: Mapping[WaitCause.ValueType, str] = MappingProxyType(
    {
        WAIT_CAUSE_SESSION: "an earlier task of its session has not ended",
        WAIT_CAUSE_SLOT: "the server runs as many tasks as it may",
        WAIT_CAUSE_STORE: STORE_AWAY,
    }
)
QUARANTINED = "a task that was lost twice runs alone, and another one is running"

# Returns the wait of a task, if any, by its id, its attempt and the time of its last journaled event.
WaitOf: TypeAlias = Callable[[str, int, Timestamp], Waiting | None]
# A wait's cause and rule: while they stay the same, it is the same wait.
_Key: TypeAlias = tuple[WaitCause.ValueType, str]


class Waits:
    """The waits of the tasks that this process drives or has queued."""

    def __init__(self, feed: Feed, running: Mapping[str, RunningTask], line: LineView, log: EventLog) -> None:
        self._feed = feed
        self._log = log
        self._tasks = running
        self._line = line
        self._before: dict[str, _Key] = {}
        self._reported: dict[str, _Key] = {}
        self._pushed: frozenset[str] = frozenset()
        # Replaced as a whole, because another thread reads it.
        self._running: Counter[_Key] = Counter()

    def of(self, task_id: str, attempt: int, last_event_time: Timestamp) -> Waiting | None:
        """Return the current wait of a task; None if it does not wait, as far as this process knows. A task that is
        queued here with an older attempt was started by another process.
        """
        running = self._tasks.get(task_id)
        if running is not None:
            return running.waiting
        place = self._line.find(task_id)
        if place is None or place.attempt != attempt:
            return None
        message = QUARANTINED if place.is_quarantined else MESSAGES[place.cause]
        return Waiting(cause=place.cause, message=message, since=last_event_time)

    def counts(self, rules: Iterable[str]) -> dict[tuple[str, str], Callable[[], int]]:
        """Return functions that count waiting tasks, by cause and rule; running tasks as of the last report. They may
        be called from another thread.
        """

        def for_session() -> int:
            line = self._line.counts
            return 0 if line.is_paused else line.behind_session

        def for_slot() -> int:
            line = self._line.counts
            return 0 if line.is_paused else line.waiting - line.behind_session

        def for_store() -> int:
            line = self._line.counts
            return self._running[WAIT_CAUSE_STORE, ""] + (line.waiting if line.is_paused else 0)

        counts: dict[tuple[str, str], Callable[[], int]] = {
            ("session", ""): for_session,
            ("slot", ""): for_slot,
            ("store", ""): for_store,
        }
        for rule in rules:
            counts["limit", rule] = lambda rule=rule: self._running[WAIT_CAUSE_LIMIT, rule]  # type: ignore[misc]  # bound now
        return counts

    async def report(self) -> None:
        """Report the waits that already existed at the last report, each once, at most REPORTED_MAX at a time."""
        pushed, self._pushed = self._pushed, self._line.take_new()
        waits = {
            task_id: (running.waiting.cause, running.waiting.rule)
            for task_id, running in self._tasks.items()
            if running.waiting is not None
        }
        self._running = Counter(waits.values())
        if self._line.counts.waiting:
            for task_id in {*pushed, *self._pushed, *self._feed.watched()}:
                if place := self._line.find(task_id):
                    waits[task_id] = (place.cause, "")
        lasting = {task_id: key for task_id, key in waits.items() if self._before.get(task_id) == key}
        reported, self._before = self._reported, waits
        new = [task_id for task_id, key in lasting.items() if reported.get(task_id) != key]
        for task_id in new[:REPORTED_MAX]:
            self._report(task_id, lasting[task_id], in_log=task_id in self._tasks or task_id in pushed)
        for task_id in new[REPORTED_MAX:]:
            del lasting[task_id]
        self._reported = lasting

    def _report(self, task_id: str, key: _Key, *, in_log: bool) -> None:
        # The event has no details: watchers read the current wait when they handle it.
        self._feed.publish([TaskEvent(task_id=task_id, waiting=Waiting(cause=key[0]))])
        if in_log:
            cause, rule = short_name(WaitCause, key[0]).lower(), key[1]
            self._log.info("task_waiting", task_id=task_id, cause=cause, **({"rule": rule} if rule else {}))
