"""Ten processes on one store for a long time: an attempt is lost where a process really died, and nowhere else."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from agent_service.engine.timing import Timing
from agent_service.service.reading import TaskReader
from agent_service.service.requests import ListTasksInput
from agent_service.service.service import ServiceOptions
from agent_service.store.memory import MemoryStore
from agent_service.v1.task_pb2 import TASK_STATE_SUBMITTED, TASK_STATE_WORKING
from tests.fakes.simulator import SOMEBODY, Process, Sight, World
from tests.fakes.virtual_time import run_virtually

PROCESSES = 10
# A day: DAY_S=86400.
DAY_S = float(os.environ.get("DAY_S", "900"))
SILENCE_S = 30.0
START_S = 1_750_000_000.0
TASK_EVERY_S = 4.0
TROUBLE_EVERY_S = 45.0
DEATH_EVERY_S = 300.0


class Day:
    """What happens to the processes, and what is counted."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.loop = asyncio.get_running_loop()
        self.store = MemoryStore()
        self.world = World()
        self.world.takes_s = lambda: self.chance.uniform(0.1, 20.0)
        self.processes: list[Process] = []
        self.accepted: list[str] = []
        self.is_out = False
        self.deaths = 0
        self.lost = 0
        self.must_be_lost = 0
        self.troubles = 0

    async def begin(self) -> None:
        for _ in range(PROCESSES):
            await self.start()

    async def start(self) -> None:
        options = ServiceOptions(retention_s=120.0)
        process = Process(
            self.world,
            self.store,
            clock=lambda: START_S + self.loop.time(),
            options=options,
            running_max=20,
            timing=Timing(follow=1.0, deadline=0.5),
        )
        process.link._liveness = process.link.sight = Sight(SILENCE_S, self.loop.time)
        self.processes.append(process)
        await process.service.begin()

    async def load(self) -> None:
        """Tasks come to processes at random; so do lists."""
        while True:
            await asyncio.sleep(self.chance.expovariate(1 / TASK_EVERY_S))
            script = [["look"], ["put", "pay"]][: self.chance.randrange(3)]
            self.any().submit(script, self.accepted, queued=self.chance.random() < 0.5)
            reader: TaskReader = self.any().service.reader
            await reader.list_tasks(SOMEBODY, ListTasksInput(page_size=50))

    async def trouble(self) -> None:
        """What happens to living processes on any day, none of it longer than a process may be silent."""
        while True:
            await asyncio.sleep(self.chance.expovariate(1 / TROUBLE_EVERY_S))
            self.troubles += 1
            process = self.any()
            link = process.link
            match self.chance.randrange(6):
                case 0:  # it stands still: a collection of garbage, a suspended machine, another's load
                    process.freeze()
                    await asyncio.sleep(self.chance.uniform(0.0, 0.6 * SILENCE_S))
                    if process in self.processes:
                        process.thaw()
                case 1:  # a backup, or a long erase, holds all writes
                    self.set_writes(fail=True)
                    await asyncio.sleep(self.chance.uniform(0.0, 4 * SILENCE_S))
                    self.set_writes(fail=False)
                case 2:  # nobody's heartbeats come through, for much longer than a process may be silent
                    self.set_beats(fail=True)
                    await asyncio.sleep(self.chance.uniform(0.0, 5 * SILENCE_S))
                    self.set_beats(fail=False)
                case 3:  # the clock is set
                    process.ahead_s = self.chance.choice([-3600.0, 0.0, 20.0])
                case 4:  # it has no descriptors left
                    link.sight.is_blind = not link.sight.is_blind
                case _:  # its heartbeats are late
                    link.beat_delay_s = self.chance.uniform(0.0, 0.3 * SILENCE_S)

    def set_writes(self, *, fail: bool) -> None:
        self.is_out = fail
        for process in self.processes:
            process.link.is_read_only = fail

    def set_beats(self, *, fail: bool) -> None:
        self.is_out = fail
        for process in self.processes:
            process.link.beat_failures = 10**9 if fail else 0

    async def die(self) -> None:
        """Now and then a process is killed, with what it drives; another one comes."""
        while True:
            await asyncio.sleep(self.chance.expovariate(1 / DEATH_EVERY_S))
            if self.is_out:
                continue  # nobody could come in its place
            process = self.any()
            self.processes.remove(process)
            await process.crash()
            self.deaths += 1
            self.must_be_lost += self.driven_by(process.worker)
            self.lost += int(process.metrics.attempts_left("LOST").value)
            await self.start()

    def driven_by(self, worker: str) -> int:
        return sum(journal.head.owner == worker for journal in self.store._journals.values())

    def any(self) -> Process:
        return self.chance.choice(self.processes)

    async def end(self) -> None:
        """Nothing new comes; all that was begun ends."""
        for process in self.processes:
            process.thaw()
            process.ahead_s = 0.0
            process.link.is_read_only = process.link.sight.is_blind = False
        await asyncio.sleep(600.0)
        self.lost += sum(int(process.metrics.attempts_left("LOST").value) for process in self.processes)


@pytest.mark.timeout(0)
def test_in_a_day_no_attempt_is_lost_without_a_death(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        day = Day(seed=1)
        await day.begin()
        going = [asyncio.ensure_future(work) for work in (day.load(), day.trouble(), day.die())]
        await asyncio.sleep(DAY_S)
        for work in going:
            work.cancel()
        await day.end()
        told = f"{DAY_S:.0f} s: {len(day.accepted)} tasks, {day.troubles} troubles, {day.deaths} deaths"
        print(f"{told}, {day.lost} attempts lost, {day.must_be_lost} by a death")  # noqa: T201 - the figures
        assert day.world.faults == []
        # Some wait to be told what came of a call that died with its process.
        states = {journal.head.state for journal in day.store._journals.values()}
        assert not states & {TASK_STATE_SUBMITTED, TASK_STATE_WORKING}
        assert day.lost == day.must_be_lost
        assert day.must_be_lost > 0

    run_virtually(play())
