"""The composition root: builds a service from its parts.

The process, the tests' server, the simulator and the benchmarks all call `assemble`; tests pass fakes for some parts.
The gRPC server is not included: see `server/app.py`.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent_service.clock import SteadyClock
from agent_service.engine.dispatch.line import Line
from agent_service.engine.dispatch.local import LocalDispatcher
from agent_service.engine.dispatch.runner import Runner
from agent_service.engine.dispatch.slots import Slots
from agent_service.engine.dispatch.take_up import Adopter
from agent_service.engine.idle_tasks import IdleTasks
from agent_service.engine.runtime import AttemptPorts, Drain, ModelPorts, Telemetry
from agent_service.engine.sweeps.deadlines import DeadlineSweeper
from agent_service.engine.sweeps.heartbeat import Heartbeat
from agent_service.engine.sweeps.housekeeping import Housekeeping
from agent_service.engine.sweeps.journal_follower import JournalFollower
from agent_service.engine.sweeps.periodic import Periodic
from agent_service.engine.sweeps.retention import Retention
from agent_service.engine.sweeps.waits import Waits
from agent_service.engine.tenant_budgets import Budget, TenantBudgets
from agent_service.engine.timing import TIMING, Timing
from agent_service.feed.memory import MemoryFeed
from agent_service.keys.base import Keys
from agent_service.limits.fair import FairLimiter
from agent_service.limits.memory import MemoryLimiter
from agent_service.observe.log import EventLog
from agent_service.observe.metrics import Metrics
from agent_service.observe.trace import NO_TRACER, Tracer
from agent_service.service.callers.abandonment import Abandonment
from agent_service.service.callers.attached import Callers
from agent_service.service.callers.caller_sweep import CallersElsewhere, CallerSweep
from agent_service.service.catalog import Catalog
from agent_service.service.commands import TaskCommands
from agent_service.service.reading import TaskReader
from agent_service.service.runtimes import Runtimes
from agent_service.service.service import Service, ServiceOptions
from agent_service.service.tasks import TaskPorts, TaskService
from agent_service.service.usage import UsageReader
from agent_service.service.watching.watcher import TaskWatcher
from agent_service.store.base import Database


def new_worker() -> str:
    """Return a name for this process that no other process of the store has or had."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceParts:
    """The parts of a service. `clock` returns Unix time in seconds; at most `running_max` tasks run at a time."""

    catalog: Catalog
    keys: Keys
    store: Database
    log: EventLog
    metrics: Metrics
    limiter: MemoryLimiter = field(default_factory=lambda: MemoryLimiter([]))
    feed: MemoryFeed = field(default_factory=MemoryFeed)
    budgets: Sequence[Budget] = ()
    worker: str = field(default_factory=new_worker)
    clock: Callable[[], float] = field(default_factory=SteadyClock)
    tracer: Tracer = NO_TRACER
    running_max: int = 1000
    options: ServiceOptions = field(default_factory=ServiceOptions)
    timing: Timing = TIMING


def assemble(parts: ServiceParts) -> Service:
    """Build a service. Nothing runs before `Service.begin`."""
    store, feed, clock, worker = parts.store, parts.feed, parts.clock, parts.worker
    log, metrics, timing, drain = parts.log, parts.metrics, parts.timing, Drain()
    telemetry = Telemetry(log, metrics, parts.tracer)
    limiter = FairLimiter(parts.limiter)
    budgets = TenantBudgets(store, parts.budgets, clock, retry_s=timing.store_retry)
    attempts = AttemptPorts(worker, clock, drain, ModelPorts(limiter, budgets, drain, telemetry), telemetry)
    runtimes = Runtimes(parts.catalog, parts.keys)
    slots, line = Slots(parts.running_max), Line(queued_max=parts.options.queued_max)
    runner = Runner(store, feed, attempts, slots, timing)
    running = runner.running
    idle = IdleTasks(store, feed, clock, log, metrics)
    adopter = Adopter(store, store, idle, runtimes, line.quarantine)
    dispatcher = LocalDispatcher(store, idle, adopter, runner, slots, line, telemetry, clock)
    waits = Waits(feed, running, line, log)
    heartbeat = Heartbeat(store, worker, limiter)
    reader = TaskReader(store, store, dispatcher, waits.of)
    watcher = TaskWatcher(store, store, feed, drain, waits.of)
    abandonment = Abandonment(dispatcher, CallersElsewhere(heartbeat, timing), log)
    callers = Callers(abandonment.abandon, reattach_grace_s=parts.options.reattach_grace_s, comeback_s=timing.comeback)
    deadlines = DeadlineSweeper(store, store, idle, running, line, dispatcher, log, clock)
    housekeeping = Housekeeping(store, store, worker, running, dispatcher, deadlines, metrics)
    follower = JournalFollower(store, feed, running, dispatcher, log)
    caller_sweep = CallerSweep(store, store, worker, running, line, callers, heartbeat)
    retention = Retention(store, clock, retention_s=parts.options.retention_s)
    task_ports = TaskPorts(store, store, feed, limiter, budgets, drain, clock)
    return Service(
        worker=worker,
        workers=store,
        feed=feed,
        budgets=budgets,
        drain_state=drain,
        idle=idle,
        runtimes=runtimes,
        tasks=TaskService(task_ports, runtimes, dispatcher, watcher, callers),
        reader=reader,
        watcher=watcher,
        usage=UsageReader(store),
        commands=TaskCommands(reader, watcher, dispatcher, idle, store),
        waits=waits,
        callers=callers,
        abandonment=abandonment,
        runner=runner,
        line=line,
        dispatcher=dispatcher,
        heartbeat=heartbeat,
        housekeeping=housekeeping,
        heartbeat_loop=Periodic("heartbeat", timing.heartbeat, heartbeat.send, log),
        sweeps={
            "adopt": Periodic("adopt", timing.adopt, housekeeping.sweep, log),
            "deadline": Periodic("deadline", timing.deadline, deadlines.end_queued, log),
            "follow": Periodic("follow", timing.follow, follower.follow, log),
            "callers": Periodic("callers", timing.publish_callers, caller_sweep.look, log),
            "erase": Periodic("erase", timing.erase, retention.erase_old, log, at_once=True),
            "waits": Periodic("waits", timing.report_waits, waits.report, log),
        },
    )
