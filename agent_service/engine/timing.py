"""Intervals of periodic work and lengths of waits. All values are seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """The defaults are those of production; tests and the simulator pass other values.

    `deadline` bounds how late a queued task ends after its deadline. The deadline of a task is a tenth of the caller's
    time before that of its caller, so the caller still sees the outcome. `follow` bounds how late watchers see the
    events of a task that another process drives. `publish_callers`, plus one heartbeat, bounds how late other processes
    know which tasks have callers here. `comeback` is how long a task that needs a caller waits for one after a drain or
    a crash.

    Events that nothing waits for are stored within `lazy_flush`, so that short steps share one commit. An unavailable
    store is retried after `store_retry`. Live text is published at most every `delta_interval`. A released task has
    `release` to write its last event, and is cancelled after that.
    """

    heartbeat: float = 1.0
    adopt: float = 1.0
    deadline: float = 0.05
    follow: float = 0.05
    publish_callers: float = 1.0
    erase: float = 60.0
    report_waits: float = 1.0
    comeback: float = 60.0
    lazy_flush: float = 0.005
    store_retry: float = 0.25
    delta_interval: float = 0.015
    release: float = 2.0


TIMING = Timing()
