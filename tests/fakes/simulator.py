"""Processes without a wire, on one store, all in one event loop: they crash, freeze and thaw, drain, lose their store
or the means to write to it, have wrong clocks, late and failing heartbeats, and hear nothing of one another.

Models and tools go on only when they are let; how far everything else goes between two commands is the test's to say.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from itertools import count
from typing import Any

import orjson

from agent_service.agents.base import Action, AgentState, RequireInput
from agent_service.agents.tool_agent import ToolAgent
from agent_service.bootstrap.assemble import ServiceParts, assemble
from agent_service.engine.runtime import AgentRuntime, ModelRuntime
from agent_service.engine.timing import TIMING, Timing
from agent_service.errors import AgentServiceError, InternalError, OverloadedError
from agent_service.keys.base import Principal, Scope
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest, Role
from agent_service.observe.log import EventLog, render_json
from agent_service.observe.metrics import Metrics
from agent_service.service.catalog import Catalog, ConfiguredAgent
from agent_service.service.requests import RunTaskInput
from agent_service.service.service import ServiceOptions
from agent_service.store.base import Appended, Change, Orphan, Peers
from agent_service.store.liveness import Liveness
from agent_service.store.memory import MemoryStore
from agent_service.tools.base import ToolContext
from agent_service.tools.decorator import AnyFunctionTool, SideEffect, tool
from agent_service.tools.python_toolset import PythonToolset
from agent_service.tools.registry import ToolRegistry
from agent_service.tools.runner import ToolRunner
from agent_service.v1.error_reason_pb2 import ERROR_REASON_STORE_UNAVAILABLE
from agent_service.v1.task_event_pb2 import FINISH_REASON_TOOL_CALLS, TaskEvent, TaskLimits
from agent_service.v1.task_pb2 import InputAnswer, Usage
from agent_service.v1.tool_pb2 import ToolCall
from tests.harness import TestKeys, reply

SOMEBODY = Principal("acme", "acme", frozenset(Scope) - {Scope.ADMIN})
FAULTS = frozenset(
    {"task_fault", "claim_fault", "abandon_fault", "sweep_failed", "task_lost", "task_unreadable", "task_stuck"}
)
TOOLS: dict[str, SideEffect] = {
    "look": "read_only",
    "put": "idempotent",
    "pay": "side_effecting",
    "sign": "side_effecting",
    "peek": "read_only",
}
# So many heartbeats of others, and one that does not beat is taken for frozen.
SILENCE_S = 5.0
NEED_APPROVAL = frozenset({"sign", "peek"})


class World:
    """What outlives every process: how often tools ran, what went wrong, and who waits to be let go on."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.faults: list[dict[str, Any]] = []
        self.is_free = False
        self.takes_s: Callable[[], float] | None = None
        # Tools that do not end when they are cancelled.
        self.is_stubborn = False
        # A fault of our own was injected: that it is told of is right.
        self.has_fault = False
        self._waiting: list[asyncio.Future[None]] = []
        self.tools = {name: self._tool(name, side_effect) for name, side_effect in TOOLS.items()}

    async def pause(self) -> None:
        """Wait to be let go on, or for as long as it is said to take."""
        if self.takes_s is not None:
            await asyncio.sleep(self.takes_s())
        elif not self.is_free:
            gate = asyncio.get_running_loop().create_future()
            self._waiting.append(gate)
            await gate

    def release_on(self, which: int) -> None:
        """Let one of those go on that wait."""
        self._waiting = [gate for gate in self._waiting if not gate.done()]
        if self._waiting:
            self._waiting.pop(which % len(self._waiting)).set_result(None)

    def let_all_go_on(self) -> None:
        """Hold nobody up any more."""
        self.is_free = True
        while self._waiting:
            self.release_on(0)

    def log(self, line: bytes) -> None:
        told = orjson.loads(line)
        if told["event"] in FAULTS and not (self.has_fault and told["error"] == "InternalError"):
            self.faults.append(told)

    def _tool(self, name: str, side_effect: SideEffect) -> AnyFunctionTool:
        @tool(name=name, side_effect=side_effect)
        async def act(context: ToolContext) -> str:
            """Does something."""
            self.runs.append(context.idempotency_key)
            try:
                await self.pause()
            except asyncio.CancelledError:
                if not self.is_stubborn:
                    raise
                await self.pause()
            return "did it"

        return act


class Scripted:
    """Plays what the task's text says: a JSON list of turns, each a list of tools to call at once, or of "?" alone."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        await observer.started("scripted", 1)
        await self._world.pause()
        turns = orjson.loads(next(one.text for one in request.messages if one.role is Role.USER))
        played = sum(one.role is Role.ASSISTANT for one in request.messages)
        if played >= len(turns):
            return reply("done")
        if turns[played] == ["?"]:
            return reply("?")
        asked = [ToolCall(id=f"c{index}", name=name, arguments_json="{}") for index, name in enumerate(turns[played])]
        return ModelReply("", asked, FINISH_REASON_TOOL_CALLS, Usage(input_tokens=1, output_tokens=1), "scripted")


class Inquisitive(ToolAgent):
    """Hands the model's "?" on to whoever answers."""

    def step(self, state: AgentState) -> Action:
        said = state.messages[-1]
        return RequireInput("why?") if said.role is Role.ASSISTANT and said.text == "?" else super().step(state)


class Sight(Liveness):
    """How a process judges the others. Its clock counts its own heartbeats, or is given with how long a silence may
    last; while it is blind it cannot read the others' counters.
    """

    def __init__(self, silence_max_s: float = SILENCE_S, clock: Callable[[], float] | None = None) -> None:
        self.seconds = 0.0
        self.is_blind = False
        super().__init__(silence_max_s, clock or (lambda: self.seconds))

    def observe(self, counts: Mapping[str, int | None]) -> None:
        self.seconds += 1.0
        super().observe(dict.fromkeys(counts) if self.is_blind else counts)


class Link(MemoryStore):
    """A process's way to the store that all share. A frozen process comes through later, a dead one never.

    Of its next calls `failures` appends and `beat_failures` heartbeats fail because the store is away, `faults` appends
    for a reason of their own; while it is `read_only` no append succeeds, and while it is `deaf` it does not see that
    journals grow. Heartbeats take `beat_steps` turns of the loop and `beat_delay_s`.
    """

    def __init__(self, shared: MemoryStore) -> None:
        super().__init__()
        self._journals, self._workers = shared._journals, shared._workers
        self._positions = shared._positions
        self._liveness = self.sight = Sight()
        self.failures = self.beat_failures = self.faults = self.beat_steps = 0
        self.beat_delay_s = 0.0
        self.is_late = self.is_read_only = self.is_deaf = False
        self._line = asyncio.Lock()
        self._is_open = asyncio.Event()
        self._is_open.set()

    def hold(self) -> None:
        self._is_open.clear()

    def release(self) -> None:
        self._is_open.set()

    async def append(self, events: Sequence[TaskEvent], *, attempt: int | None, after: int | None = None) -> Appended:
        async with self._line:
            await self._through()
            if self.failures or self.is_read_only:
                self.failures = max(0, self.failures - 1)
                raise OverloadedError(ERROR_REASON_STORE_UNAVAILABLE, "the disk is full")
            if self.faults:
                self.faults -= 1
                raise InternalError
            (outcome,) = await asyncio.gather(
                super().append(events, attempt=attempt, after=after), return_exceptions=True
            )
        await self._through()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def read(self, task_id: str, *, after_sequence: int = 0, limit: int = 1000) -> list[TaskEvent]:
        await self._through()
        events = await super().read(task_id, after_sequence=after_sequence, limit=limit)
        await self._through()
        return events

    async def heartbeat(self, worker: str) -> Peers:
        for _ in range(self.beat_steps):
            await asyncio.sleep(0)
        if self.beat_delay_s:
            await asyncio.sleep(self.beat_delay_s)
        await self._through()
        if self.beat_failures:
            self.beat_failures -= 1
            self.sight.interrupt()
            raise OverloadedError(ERROR_REASON_STORE_UNAVAILABLE, "the disk is away")
        return await super().heartbeat(worker)

    async def follow(self, after_position: int, *, limit: int = 1000) -> list[Change]:
        return [] if self.is_deaf else await super().follow(after_position, limit=limit)

    async def orphans(
        self, worker: str, driven: Collection[str] = (), *, begun: bool, after: int = 0, limit: int = 1000
    ) -> list[Orphan]:
        await self._through()
        return await super().orphans(worker, driven, begun=begun, after=after, limit=limit)

    async def overdue(self, now_us: int, *, limit: int = 1000) -> list[str]:
        await self._through()
        return await super().overdue(now_us + (10**12 if self.is_late else 0), limit=limit)

    async def _through(self) -> None:
        await asyncio.sleep(0)
        await self._is_open.wait()


class Process:
    """A server, without its wire."""

    _numbers = count(1)

    def __init__(
        self,
        world: World,
        shared: MemoryStore,
        *,
        clock: Callable[[], float] = time.time,
        options: ServiceOptions | None = None,
        running_max: int = 2,
        timing: Timing = TIMING,
    ) -> None:
        self.worker = f"test:{next(self._numbers)}"
        self.link = Link(shared)
        # How far the clock of its machine is wrong.
        self.ahead_s = 0.0
        self.commands: list[asyncio.Task[Any]] = []
        self._shared = shared
        log = EventLog("INFO", render_json, world.log)
        self.metrics = Metrics("test")
        tools = ToolRegistry([PythonToolset(world.tools.values(), ToolRunner())])
        runtime = AgentRuntime(
            name="assistant",
            agent=Inquisitive(),
            model=ModelRuntime("scripted", Scripted(world), 100),
            tools=world.tools,
            toolsets=tools.toolsets,
            needs_approval=NEED_APPROVAL,
        )
        limits = TaskLimits(turns=10, tool_calls=20, parallel_tools=2)
        agent = ConfiguredAgent.of(runtime, instructions="", limits=limits, timeout_s=300, timeout_max_s=300)
        catalog = Catalog([agent], tools, default_agent="assistant")
        self.service = assemble(
            ServiceParts(
                catalog=catalog,
                keys=TestKeys(),
                store=self.link,
                log=log,
                metrics=self.metrics,
                worker=self.worker,
                clock=lambda: clock() + self.ahead_s,
                running_max=running_max,
                options=options or ServiceOptions(),
                timing=timing,
            )
        )
        self.runner = self.service.runner

    def submit(self, script: list[list[str]], accepted: list[str], *, queued: bool) -> None:
        """Have a task accepted; its id is in `accepted` once it is."""

        async def work() -> None:
            run = RunTaskInput(task=orjson.dumps(script).decode())
            tasks = self.service.tasks
            prepared = tasks.prepare(SOMEBODY, run, caller_left_s=None, detached=True)
            accepted.append((await tasks.accept(prepared, queued=queued)).task_id)

        self._begin(work())

    def cancel(self, task_id: str) -> None:
        self._begin(self.service.commands.cancel(SOMEBODY, task_id))

    def resume(self, task_id: str, input_id: str, answer: InputAnswer) -> None:
        self._begin(self.service.commands.resume(SOMEBODY, task_id, input_id, answer))

    def drain(self) -> None:
        async def work() -> None:
            await self.service.drain(0)
            await self.service.close()

        self._begin(work())

    def freeze(self) -> None:
        """Stand still. Others take it for frozen once they have seen that for long enough."""
        self.link.hold()

    def thaw(self) -> None:
        self.link.release()

    async def crash(self) -> None:
        """Be gone, whatever was going on; the system releases its lock."""
        self.freeze()
        await self._shared.deregister(self.worker)
        for command in self.commands:
            command.cancel()

    def _begin(self, work: Coroutine[Any, Any, object]) -> None:
        async def command() -> None:
            try:
                await work
            except AgentServiceError:
                """Refused, which is an answer too."""

        self.commands.append(asyncio.ensure_future(command()))
