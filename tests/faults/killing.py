"""The kill test: a server that is killed again and again, under users who want their tasks done.

    make test-kill                          300 kills of one of two servers on one file, about ten minutes
    make test-kill ARGS='--kills 50 --seed 7 --processes 1'

A real process is killed with SIGKILL at random instants, and as soon as somebody has seen the n-th event of a task, for
every n; the other one, if there are two, lives on. Their tools write what they do into a file outside the store. Users
run, stream and submit tasks through the Python client, which finds the restarted server by itself, and answer what
tasks ask. At the end it is counted: whatever was accepted is there and has ended, every journal is whole, nothing that
finished was done again, nothing that may act twice was run again unasked, every unknown outcome was asked about, every
request is one task, and no attempt was lost but those whose process was killed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

from agent_service.client import AsyncClient, CallError, failure, result, run_again
from agent_service.engine.attempt.driver import LOSSES_MAX
from agent_service.engine.task.state import FoldedTask
from agent_service.store.base import TaskQuery
from agent_service.store.sqlite.adapter import SqliteStore
from agent_service.v1.error_reason_pb2 import ERROR_REASON_ATTEMPTS_EXHAUSTED
from agent_service.v1.task_event_pb2 import ATTEMPT_END_CAUSE_LOST, TaskEvent
from agent_service.v1.task_pb2 import INPUT_KIND_OUTCOME_UNKNOWN, TASK_STATE_INPUT_REQUIRED, Task
from agent_service.v1.tool_pb2 import TOOL_SIDE_EFFECT_SIDE_EFFECTING
from tests.e2e.processes import KEY, ServerProcess, server_process
from tests.fakes.ports import free_port

WORLD = Path(__file__).parent / "kill_world"
USERS = 12
# The most journaled events that a task of the script has when nothing goes wrong; kills go round over them.
BOUNDARIES = 18
# How long the server lives at most between two kills; users need some of it to find it again.
LIFE_S = 1.5
# What one kill, and the end, may take on a machine that is busy with other things: beyond that, somebody hangs.
KILL_S_MAX = 15.0
END_S_MAX = 300.0
ANSWERS = (run_again(), result("paid by hand"), failure("it was not paid"))


@dataclass
class Story:
    """What the users saw and did, to be held against the journals."""

    chance: random.Random
    requests: int = 0
    accepted: set[str] = field(default_factory=set)
    ended: dict[str, Task] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    killed_pids: set[str] = field(default_factory=set)
    _watched: int = 0
    _seen: asyncio.Event = field(default_factory=asyncio.Event)

    def saw(self, event: TaskEvent) -> None:
        """A user has read an event."""
        self.accepted.add(event.task_id)
        if event.sequence == self._watched:
            self._seen.set()

    async def boundary(self, sequence: int) -> None:
        """Wait until some user has just read an event of that sequence."""
        self._watched = sequence
        self._seen.clear()
        await self._seen.wait()


class Slot:
    """One of the servers: a port, and the process that has it now."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._life = AsyncExitStack()
        self._running: ServerProcess | None = None

    async def start(self) -> None:
        self._running = await self._life.enter_async_context(server(self._directory, self.port))

    async def kill(self, story: Story) -> None:
        """The end of one life."""
        assert self._running is not None
        story.killed_pids.add(str(self._running.process.pid))
        self._running.process.send_signal(signal.SIGKILL)
        story.kills += 1
        await self._life.aclose()


async def kill_test(
    directory: Path,
    *,
    kills: int,
    seed: int,
    processes: int = 1,
    life_s: float = LIFE_S,
    tell: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Run it; what is wrong at the end, nothing if all is well."""
    story = Story(random.Random(seed))
    try:
        async with asyncio.timeout(kills * KILL_S_MAX + END_S_MAX):
            await killed_again_and_again(directory, kills, processes, life_s, story, tell)
    except TimeoutError:
        return ["it hangs", *await findings(directory, story)]
    return await findings(directory, story)


async def killed_again_and_again(
    directory: Path, kills: int, processes: int, life_s: float, story: Story, tell: Callable[[str], None]
) -> None:
    """So many lives of servers, and one of each in which all that was begun comes to its end."""
    for file in WORLD.iterdir():
        if file.is_file():
            shutil.copy(file, directory)
    slots = [Slot(directory) for _ in range(processes)]
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        clients = []
        for number in range(USERS):
            target = f"127.0.0.1:{slots[number % processes].port}"
            clients.append(await stack.enter_async_context(AsyncClient(target, api_key=KEY, patience_s=120)))
        for slot in slots:
            await slot.start()
        async with asyncio.TaskGroup() as group:
            users = [group.create_task(user(client, n, story, stop)) for n, client in enumerate(clients)]
            while story.kills < kills:
                await moment(story, life_s)
                slot = story.chance.choice(slots)
                await slot.kill(story)
                await slot.start()
                if story.kills % 25 == 0 or story.kills == kills:
                    told = f"{story.kills}/{kills} kills, {len(story.accepted)} tasks accepted"
                    tell(f"{told}, {len(story.ended)} ended, {sum(story.answers.values())} outcomes decided")
            stop.set()
            await asyncio.wait(users)
        for slot in slots:
            await slot.kill(story)


async def moment(story: Story, life_s: float) -> None:
    """When to kill: in turn at a random instant, and right behind the next event boundary."""
    if story.kills % 2:
        boundary = story.kills // 2 % BOUNDARIES + 1
        try:
            async with asyncio.timeout(life_s):
                await story.boundary(boundary)
        except TimeoutError:
            """No task came that far in this life of the server."""
    else:
        await asyncio.sleep(story.chance.uniform(0.0, life_s))


async def user(client: AsyncClient, number: int, story: Story, stop: asyncio.Event) -> None:
    """Wants one task after the other done."""
    count = 0
    while not stop.is_set():
        count += 1
        story.requests += 1
        text = story.chance.choice(["mix", "pay"])
        method = story.chance.choice([ran, streamed, submitted])
        task = await method(client, text, f"user{number}-{count}", story)
        while task.state == TASK_STATE_INPUT_REQUIRED:
            task = await answered(client, task, story)
        story.accepted.add(task.id)
        story.ended[task.id] = task


async def ran(client: AsyncClient, text: str, request_id: str, story: Story) -> Task:
    return await client.run(text, request_id=request_id, timeout_s=600)


async def streamed(client: AsyncClient, text: str, request_id: str, story: Story) -> Task:
    task_id, seen = "", 0
    async with aclosing(client.stream(text, request_id=request_id, timeout_s=600)) as events:
        async for event in events:
            task_id = event.task_id
            if not (event.HasField("text_delta") or event.HasField("heartbeat")):
                seen += 1
                assert event.sequence == seen, f"event {event.sequence} of {task_id} after {seen - 1}"
            story.saw(event)
    return await client.get_task(task_id)


async def submitted(client: AsyncClient, text: str, request_id: str, story: Story) -> Task:
    task = await client.submit(text, request_id=request_id, timeout_s=600)
    story.accepted.add(task.id)
    return await watched(client, task, story)


async def watched(client: AsyncClient, task: Task, story: Story) -> Task:
    async with aclosing(client.watch(task.id, after_sequence=task.last_sequence)) as events:
        async for event in events:
            story.saw(event)
    return await client.get_task(task.id)


async def answered(client: AsyncClient, task: Task, story: Story) -> Task:
    """Decide all that is unknown, each at random, and follow the task from there."""
    for asked in task.pending_inputs:
        assert asked.kind == INPUT_KIND_OUTCOME_UNKNOWN
        answer = story.chance.choice(ANSWERS)
        try:
            task = await client.resume(task.id, asked.input_id, answer)
        except CallError as error:
            # The answer before the crash that hid its success from us, and another chosen since.
            assert error.reason == "STALE_ANSWER", error  # noqa: PT017 - this is no test, it is its driver
            task = await client.get_task(task.id)
        story.answers[answer.WhichOneof("answer") or ""] += 1
    return await watched(client, task, story)


async def findings(directory: Path, story: Story) -> list[str]:
    """All that is not as it must be."""
    found: list[str] = []
    begun = begun_calls(directory)
    async with SqliteStore(directory / "test.db") as store:
        stored = {row.task_id for row in (await store.list_tasks(TaskQuery(limit=1_000_000))).rows}
        if len(stored) != story.requests:
            found.append(f"{story.requests} requests have become {len(stored)} tasks")
        for task_id in sorted(story.accepted | stored):
            journal: list[TaskEvent] = []
            while page := await store.read(task_id, after_sequence=len(journal)):
                journal += page
            wrong = wrong_with(journal, begun, story.ended.get(task_id))
            wrong += wrong_with_attempts(journal, story.killed_pids)
            found += [f"task {task_id}: {one}" for one in wrong]
    with closing(sqlite3.connect(directory / "test.db")) as connection:
        (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
    if verdict != "ok":
        found.append(f"the database is damaged: {verdict}")
    if not any(begun.values()):
        found.append("no tool ever ran")
    return found


def begun_calls(directory: Path) -> Counter[str]:
    """How often each call has begun to act on the world, by its idempotency key."""
    lines = (directory / "world.log").read_text().splitlines() if (directory / "world.log").exists() else []
    return Counter(line.split()[2] for line in lines if line.startswith("begin "))


def wrong_with(journal: list[TaskEvent], begun: Counter[str], ended: Task | None) -> list[str]:
    """What is wrong with one task."""
    if not journal:
        return ["accepted, and lost"]
    if [event.sequence for event in journal] != list(range(1, len(journal) + 1)):
        return ["its journal has gaps"]
    folded = FoldedTask.fold(journal)
    found = [] if folded.is_terminal else ["it did not end"]
    if ended is not None and ended != folded.task:
        found.append("its caller was told something else than what is stored")
    if folded.task.failure.reason == ERROR_REASON_ATTEMPTS_EXHAUSTED:
        if losses_in_a_row(journal) < LOSSES_MAX:
            found.append("given up too early")
    elif folded.is_terminal and folded.task.failure.reason:
        found.append(f"failed: {folded.task.failure}")
    return found + wrong_with_calls(journal, begun)


def wrong_with_attempts(journal: list[TaskEvent], killed_pids: set[str]) -> list[str]:
    """Attempts that were taken for lost though their process lived: its worker is called host:pid:number."""
    worker, found = "", []
    for event in journal:
        if event.HasField("attempt_started"):
            worker = event.attempt_started.worker
        is_lost = event.HasField("attempt_ended") and event.attempt_ended.cause == ATTEMPT_END_CAUSE_LOST
        if is_lost and worker.split(":")[1] not in killed_pids:
            found.append(f"attempt {event.attempt} of {worker} was taken for lost, and nobody had killed that")
    return found


def losses_in_a_row(journal: list[TaskEvent]) -> int:
    """The most attempts that were lost one after the other without a step forward."""
    most = losses = 0
    progressed = False
    for event in journal:
        match event.WhichOneof("event"):
            case "attempt_started":
                progressed = False
            case "model_replied" | "tool_finished":
                progressed = True
            case "attempt_ended" if event.attempt_ended.cause == ATTEMPT_END_CAUSE_LOST:
                losses = 0 if progressed else losses + 1
                most = max(most, losses)
    return most


def wrong_with_calls(journal: list[TaskEvent], begun: Counter[str]) -> list[str]:
    starts: Counter[str] = Counter()
    reruns: Counter[str] = Counter()
    risky: set[str] = set()
    asked: dict[str, str] = {}
    finished: set[str] = set()
    unknown: dict[str, int] = {}
    found = []
    for event in journal:
        match event.WhichOneof("event"):
            case "tool_started":
                call_id = event.tool_started.tool_call_id
                if call_id in finished:
                    found.append(f"call {call_id} was started again after it had finished")
                starts[call_id] += 1
                if event.tool_started.side_effect == TOOL_SIDE_EFFECT_SIDE_EFFECTING:
                    risky.add(call_id)
                    unknown[call_id] = event.attempt
            case "tool_finished":
                call_id = event.tool_finished.tool_call_id
                finished.add(call_id)
                if unknown.pop(call_id, event.attempt) != event.attempt:
                    found.append(f"call {call_id} was lost, and given a result without asking")
            case "input_required":
                for one in event.input_required.inputs:
                    unknown.pop(one.tool_call.id, None)
                asked |= {one.input_id: one.tool_call.id for one in event.input_required.inputs}
            case "input_received" if event.input_received.answer.HasField("run_again"):
                reruns[asked[event.input_received.input_id]] += 1
    for call_id, count in starts.items():
        if call_id in risky and count > 1 + reruns[call_id]:
            found.append(f"side-effecting call {call_id} was started {count} times, asked for {reruns[call_id]} more")
        # Others may have begun before their start was stored: for them that is the same as not having begun.
        acted = begun[f"{journal[0].task_id}/{call_id}"]
        if call_id in risky and acted > count:
            found.append(f"call {call_id} acted {acted} times in {count} starts")
        if call_id in risky and call_id not in finished and call_id not in asked.values():
            found.append(f"nobody was asked about call {call_id}, whose outcome is unknown")
    return found


@asynccontextmanager
async def server(directory: Path, port: int) -> AsyncIterator[ServerProcess]:
    """The next life of the server, on the same port and the same store."""
    settings = {
        "API_PORT": str(port),
        "LLM_PROVIDER": "",
        "METRICS_ENABLED": "false",
        "PYTHONPATH": str(directory),
        "RATE_LIMIT_CALLS": "1000000",
        "RATE_LIMIT_TOKENS": "1000000000",
    }
    async with server_process(directory, **settings) as running:
        yield running


def main() -> None:
    parser = argparse.ArgumentParser(description="Kills a server again and again, and counts what became of its tasks.")
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="agent-service-kill-") as directory:
        found = asyncio.run(
            kill_test(Path(directory), kills=given.kills, seed=given.seed, processes=given.processes, tell=say)
        )
    say(
        f"{given.kills} kills of {given.processes} processes in {time.monotonic() - began:.0f} s: {len(found)} findings"
    )
    for one in found:
        say(one)
    sys.exit(1 if found else 0)


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - it talks to people


if __name__ == "__main__":
    main()
