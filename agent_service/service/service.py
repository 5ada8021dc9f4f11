"""The service behind the RPCs: its parts, the periodic work, and shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from agent_service.engine.dispatch.base import LineView
from agent_service.engine.dispatch.local import LocalDispatcher
from agent_service.engine.dispatch.runner import Runner
from agent_service.engine.idle_tasks import IdleTasks
from agent_service.engine.runtime import Drain
from agent_service.engine.sweeps.heartbeat import Heartbeat
from agent_service.engine.sweeps.housekeeping import Housekeeping
from agent_service.engine.sweeps.periodic import Periodic
from agent_service.engine.sweeps.waits import Waits
from agent_service.engine.tenant_budgets import TenantBudgets
from agent_service.errors import OverloadedError
from agent_service.feed.base import Feed
from agent_service.service.callers.abandonment import Abandonment
from agent_service.service.callers.attached import Callers
from agent_service.service.commands import TaskCommands
from agent_service.service.reading import TaskReader
from agent_service.service.runtimes import Runtimes
from agent_service.service.tasks import TaskService
from agent_service.service.usage import UsageReader
from agent_service.service.watching.watcher import TaskWatcher
from agent_service.store.base import Workers


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """Bounds of the service.

    `queued_max` is the maximum of queued tasks per tenant. `reattach_grace_s` is how long a task with a request_id
    outlives its last caller. `retention_s` is how long finished tasks are kept; 0 keeps them without a limit.
    """

    queued_max: int = 1000
    reattach_grace_s: float = 10.0
    retention_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The parts of a running service, put together by `bootstrap/assemble.py`.

    `sweeps` run from `begin` to `close`; `heartbeat_loop` starts before them and ends after them.
    """

    worker: str
    workers: Workers
    feed: Feed
    budgets: TenantBudgets
    drain_state: Drain
    idle: IdleTasks
    runtimes: Runtimes
    tasks: TaskService
    reader: TaskReader
    watcher: TaskWatcher
    usage: UsageReader
    commands: TaskCommands
    waits: Waits
    callers: Callers
    abandonment: Abandonment
    runner: Runner
    line: LineView
    dispatcher: LocalDispatcher
    heartbeat: Heartbeat
    housekeeping: Housekeeping
    heartbeat_loop: Periodic
    sweeps: Mapping[str, Periodic]
    _background: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def running(self) -> int:
        """The number of tasks that run in this process."""
        return len(self.runner.running)

    @property
    def queued(self) -> int:
        """The number of tasks that are queued in this process."""
        return self.line.counts.waiting

    async def begin(self) -> int:
        """Adopt the unfinished tasks of the store; return how many.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        await self.heartbeat.send()
        self._background.append(asyncio.create_task(self.heartbeat_loop.run()))
        found = await self.housekeeping.begin()
        self._background.extend(asyncio.create_task(sweep.run()) for sweep in self.sweeps.values())
        return found

    async def drain(self, grace_s: float) -> None:
        """Accept no more tasks, give running ones this long to end, release the rest durably, end all subscriptions. A
        task that only waits for a limit is released at once.
        """
        self.drain_state.stops_at = asyncio.get_running_loop().time() + grace_s
        self.callers.close()
        await self.dispatcher.drain(grace_s)
        self.feed.close()

    async def close(self) -> None:
        """Stop the periodic work, and release the tasks that still run."""
        heartbeat, others = self._background[:1], self._background[1:]
        await _cancelled(others)
        self.callers.close()
        await self.dispatcher.drain(0.0)
        # The heartbeat ends last: until here no other process may adopt the tasks that are being released.
        await _cancelled(heartbeat)
        with suppress(OverloadedError):
            # If the store is unavailable, the free lock of this process shows the others that it has ended.
            await self.workers.deregister(self.worker)


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
