"""The service behind the wire: its parts, what goes on by itself, and how it leaves."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from agent_service.agents.config_changed import ConfigChanged
from agent_service.engine.dispatch.dispatcher import Dispatcher
from agent_service.engine.dispatch.runner import Runner
from agent_service.engine.runtime import AgentRuntime
from agent_service.engine.sweeps.deadlines import DeadlineSweeper
from agent_service.engine.sweeps.heartbeat import Heartbeat
from agent_service.engine.sweeps.housekeeping import Housekeeping
from agent_service.engine.sweeps.journal_follower import JournalFollower
from agent_service.engine.sweeps.retention import Retention
from agent_service.engine.sweeps.waits import Waits
from agent_service.engine.task.state import FoldedTask
from agent_service.errors import OverloadedError
from agent_service.keys.base import Keys
from agent_service.service.attendance import Attendance
from agent_service.service.callers import Callers
from agent_service.service.catalog import Catalog
from agent_service.service.commands import TaskCommands
from agent_service.service.reading import TaskReader
from agent_service.service.tasks import TaskService
from agent_service.service.usage import UsageReader
from agent_service.service.watching import TaskWatcher
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_pb2 import Failure


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """Bounds: queued tasks of a tenant, seconds that a task with a request_id outlives its last caller, seconds that
    finished tasks are kept (0: for ever).
    """

    queued_max: int = 1000
    reattach_grace_s: float = 10.0
    retention_s: float = 0.0


class Service:
    """`tasks` accepts, `reader`, `watcher`, `usage` and `waits` show, `commands` act. Between `begin` and `close` the
    rest goes on.
    """

    def __init__(self, catalog: Catalog, runner: Runner, keys: Keys, options: ServiceOptions) -> None:
        self._runner = runner
        self._ports = runner.ports
        self._keys = keys
        self._dispatcher = Dispatcher(runner, self._runtime_of, queued_max=options.queued_max)
        self.waits = Waits(runner, self._dispatcher)
        self.reader = TaskReader(runner, self.waits.of)
        self.usage = UsageReader(runner.ports.store)
        self.watcher = TaskWatcher(runner, self.waits.of)
        self.commands = TaskCommands(self.reader, self.watcher, runner, self._dispatcher)
        self._callers = Callers(self.commands.abandon, reattach_grace_s=options.reattach_grace_s)
        self._heartbeat = Heartbeat(runner.ports)
        self._attendance = Attendance(runner, self._dispatcher, self._callers, self._heartbeat)
        self.commands.has_callers = self._callers.has
        self.commands.others_have_callers = self._attendance.others_have
        self.tasks = TaskService(catalog, runner, self._dispatcher, self.watcher, self._callers)
        self._tail = JournalFollower(runner, self._heartbeat)
        self._overdue = DeadlineSweeper(runner, self._dispatcher)
        self._upkeep = Housekeeping(runner, self._dispatcher, self._overdue)
        self._retention = Retention(runner.ports, retention_s=options.retention_s)
        self._background: list[asyncio.Task[None]] = []

    @property
    def running(self) -> int:
        """How many tasks run in this process."""
        return len(self._runner.running)

    @property
    def queued(self) -> int:
        """How many tasks wait in this process for their turn."""
        return self._dispatcher.queued

    async def begin(self) -> int:
        """Take up what the store has unfinished; how many tasks.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        await self._heartbeat.beat()
        self._background = [asyncio.create_task(self._heartbeat.run())]
        found = await self._upkeep.begin()
        loops = (self._upkeep, self._overdue, self._tail, self._attendance, self._retention, self.waits)
        self._background += [asyncio.create_task(loop.run()) for loop in loops]
        return found

    async def drain(self, grace_s: float) -> None:
        """Accept nothing more, let what runs end for so long, release the rest durably, end all watching. What only
        waits for a limit is released at once.
        """
        self._ports.drain.stops_at = asyncio.get_running_loop().time() + grace_s
        await self._dispatcher.stop()
        self._callers.close()
        self._runner.release_waiting()
        await self._runner.drained(timeout_s=grace_s)
        await self._runner.release()
        self._ports.feed.close()

    async def close(self) -> None:
        """Stop what goes on by itself, and let go of what still runs."""
        heartbeat, others = self._background[:1], self._background[1:]
        await _cancelled(others)
        self._callers.close()
        await self._dispatcher.stop()
        await self._runner.release()
        # To the last: until here others must not take what is being let go of.
        await _cancelled(heartbeat)
        with suppress(OverloadedError):
            # Where the store is away, others see by our lock that we are gone.
            await self._ports.store.leave(self._ports.worker)

    def _runtime_of(self, folded: FoldedTask) -> AgentRuntime | Failure:
        """What a task runs on now, or why it must not be begun at all."""
        submitted = folded.submitted
        runtime = self.tasks.catalog.runtime_of(submitted)
        if folded.task.attempt == 0:
            if runtime is None:
                changed = "the configuration no longer has the agent, model or tools that the task was accepted with"
                return Failure(reason=reasons.ERROR_REASON_CONFIG_CHANGED, message=changed)
            if not self._keys.is_valid(submitted.submitted_by):
                revoked = "the key that submitted the task is no longer valid"
                return Failure(reason=reasons.ERROR_REASON_KEY_REVOKED, message=revoked)
        return runtime or AgentRuntime(name=submitted.agent, agent=ConfigChanged(), model=None, tools={})


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
