"""How often periodic work is done, and how long things wait. All values are seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """The defaults are those of production; tests and the simulator pass other values.

    `deadline` bounds how late a queued task ends after its deadline: the task of a caller with a deadline ends a tenth
    of the caller's time before it, so that the caller sees the outcome. `follow` bounds how late watchers see the
    events of a task that another process drives. `publish_callers` bounds how late other processes know, with one
    heartbeat added, which tasks have callers here. `comeback` is how long a task that needs a caller, and has none
    after a drain or a crash, waits for one.

    Events that nothing waits for are stored within `lazy_flush`, so that short steps share one commit. A store that is
    away is asked again after `store_retry`. Live text is published every `delta_interval` at most. Tasks that are
    released may take `release` to write that down, before they are cancelled.
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
