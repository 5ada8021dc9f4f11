"""What a hostile caller, tool, model, disk or reader does: each was a fault once."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import NULL_VALUE, Struct, Value
from grpc import aio

from agent_service.agents.base import Action, AgentState, CallTools
from agent_service.client import AsyncClient, CallError
from agent_service.errors import ToolError
from agent_service.feed.frame import Frame
from agent_service.feed.memory import PENDING_EVENTS_MAX, MemorySubscription
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.tools.decorator import tool
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.agent_service_pb2_grpc import AgentServiceStub
from agent_service.v1.task_event_pb2 import FINISH_REASON_TOOL_CALLS, TaskLimits
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_FAILED
from agent_service.v1.tool_pb2 import ToolCall
from tests.e2e.processes import KEY as PROCESS_KEY
from tests.e2e.processes import agent_service, command, environment, server_process
from tests.fakes.ports import free_port
from tests.harness import KEY, SOON_S, FakeModel, Parts, calls, says, started

METADATA = (("x-api-key", KEY),)


@tool(side_effect="read_only")
async def give(json_text: str) -> Any:
    """Gives back what the text says, computed where JSON has no word for it."""
    return {"huge": 10**400, "large": 2**60 + 1, "deep text": "[" * 40}.get(json_text, json_text)


async def test_a_struct_of_one_long_key_and_many_values_is_refused_at_once() -> None:
    struct = Struct()
    struct.fields["k" * 2_000_000].list_value.values.extend([Value(null_value=NULL_VALUE)] * 300_000)
    async with started(Parts(tools=[give])) as running, running.channel() as channel:
        began = time.perf_counter()
        call = AgentServiceStub(channel).ToolInvoke(
            pb.ToolInvokeRequest(tool_name="give", inputs=struct), metadata=METADATA
        )
        with pytest.raises(aio.AioRpcError) as refused:
            await call
        assert CallError.of(refused.value).violations[0][0] == "inputs"
        assert time.perf_counter() - began < SOON_S


async def test_an_agent_that_asks_for_no_tools_at_all_fails_its_task() -> None:
    class Idle:
        def step(self, state: AgentState) -> Action:
            return CallTools(())

    async with started(Parts(agent=Idle())) as running:
        async with asyncio.timeout(SOON_S):
            task = await running.client.run("hi")
        assert (task.state, task.failure.reason) == (TASK_STATE_FAILED, reasons.ERROR_REASON_INTERNAL)


async def test_a_reader_that_was_too_slow_still_gets_every_journaled_event(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = PENDING_EVENTS_MAX  # four events each: more than a subscription holds, and than one read of the store gives
    model = FakeModel(*[calls(("give", {"json_text": "x"}))] * turns, says("done"))
    limits = TaskLimits(turns=turns + 1, tool_calls=turns, parallel_tools=1)
    held = asyncio.Event()
    read_on = MemorySubscription.next

    async def slow(self: MemorySubscription, timeout_s: float, _: object) -> Frame | None:
        await held.wait()
        return await read_on(self, timeout_s)

    async with started(Parts(model=model, tools=[give], limits=limits)) as running:
        stream = running.client.stream("go")
        first = await anext(stream)
        # The service's own reader stands still, as it would behind a client that does not read: transports buffer more.
        monkeypatch.setattr(MemorySubscription, "next", slow)
        assert await running.runner.drained(timeout_s=20)
        held.set()
        async with asyncio.timeout(10):  # less than the silence after which a stream looks again by itself
            rest = [event.sequence async for event in stream if not event.HasField("text_delta")]
        journal = await running.store.read(first.task_id, limit=100_000)
        assert [first.sequence, *rest] == [event.sequence for event in journal]
        assert len(journal) > 1000


async def test_ids_that_a_provider_repeats_or_forges_never_name_two_calls() -> None:
    keys: list[str] = []

    @tool
    async def act(number: int) -> int:
        """Changes the world."""
        keys.append(str(number))
        return number

    async def repeats(_: ModelRequest, __: ModelObserver) -> ModelReply:
        made = [ToolCall(id=one, name="act", arguments_json=f'{{"number": {index}}}') for index, one in enumerate(IDS)]
        return ModelReply("", made, FINISH_REASON_TOOL_CALLS)

    async with started(Parts(model=FakeModel(repeats, says("done")), tools=[act])) as running:
        task = await running.client.run("x")
        assert task.state == TASK_STATE_COMPLETED
        events = await running.store.read(task.id)
        ids = [event.tool_started.tool_call_id for event in events if event.HasField("tool_started")]
        assert len(set(ids)) == len(IDS)
        assert max(map(len, ids)) <= 128
        assert sorted(keys) == ["0", "1", "2", "3"]


IDS = ["call_1_1", "call_1_1", "", "x" * 100_000]


@pytest.mark.parametrize("message", ["bad file \udc80.txt", 123])
async def test_whatever_a_tool_raises_with_is_a_value_for_the_model(message: Any) -> None:
    @tool
    async def refuse() -> str:
        """Raises."""
        raise ToolError(message)

    async with started(Parts(model=FakeModel(calls(("refuse", {})), says("ok")), tools=[refuse])) as running:
        assert (await running.client.run("x")).state == TASK_STATE_COMPLETED


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
async def test_a_tool_that_raises_what_would_end_the_loop_ends_its_call_alone(kind: type[BaseException]) -> None:
    @tool(side_effect="read_only")
    async def quit_all() -> str:
        """Raises what is no Exception."""
        raise kind

    async with started(Parts(model=FakeModel(calls(("quit_all", {})), says("ok")), tools=[quit_all])) as running:
        assert (await running.client.run("x")).state == TASK_STATE_COMPLETED
        assert (await running.client.run("x")).state == TASK_STATE_COMPLETED


@pytest.mark.parametrize(
    ("asked", "text"),
    [("deep text", "[" * 40), ("huge", str(10**400)), ("large", str(2**60 + 1)), ("plain", "plain")],
)
async def test_results_that_a_value_cannot_hold_come_as_their_text(asked: str, text: str) -> None:
    async with started(Parts(tools=[give])) as running:
        assert (await running.client.invoke_tool("give", {"json_text": asked})).output.string_value == text


async def test_a_reply_too_long_for_any_client_fails_the_task_and_the_task_can_be_read() -> None:
    async with started(Parts(model=FakeModel(says("x" * 1_100_000)))) as running:
        task = await running.client.run("x")
        assert task.failure.reason == reasons.ERROR_REASON_LLM_REJECTED
        assert (await running.client.get_task(task.id)).state == TASK_STATE_FAILED


async def test_a_call_whose_deadline_passed_is_logged_as_that() -> None:
    class Deaf:
        """An agent that keeps the loop past the caller's deadline."""

        def step(self, state: AgentState) -> Action:
            time.sleep(0.3)
            return CallTools(())

    async with started(Parts(agent=Deaf())) as running, running.channel() as channel:
        call = AgentServiceStub(channel).RunTask(pb.RunTaskRequest(task="x"), metadata=METADATA, timeout=0.1)
        with pytest.raises(aio.AioRpcError):
            await call
        await running.client.list_tools()
        line = next(line for line in running.log if line.get("method", "").endswith("RunTask"))
        assert line["code"] == "DEADLINE_EXCEEDED"


async def killed_with_tasks(directory: Path, tasks: int) -> list[str]:
    """The ids of so many tasks that were running when their server was killed."""
    (directory / "script.yaml").write_text("- match: .*\n  turns: [{text: never, delay_s: 600}]\n")
    (directory / "config.yaml").write_text(
        "models: {default: {provider: scripted, script: script.yaml}}\nagents: {assistant: {model: default}}\n"
    )
    async with (
        server_process(directory, LLM_PROVIDER="") as server,
        AsyncClient(server.target, api_key=PROCESS_KEY) as client,
    ):
        streams = [client.stream("x") for _ in range(tasks)]
        ids = [(await anext(stream)).task_id for stream in streams]
        server.process.kill()
        await server.process.wait()
        for stream in streams:
            await stream.aclose()
    return ids


async def test_a_start_that_fails_has_begun_nothing(tmp_path: Path) -> None:
    (task_id,) = await killed_with_tasks(tmp_path, 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = environment(
            API_KEY=PROCESS_KEY,
            API_HOST="127.0.0.1",
            API_PORT=str(taken.getsockname()[1]),
            METRICS_ENABLED="false",
            DATABASE_URL=f"sqlite:///{tmp_path / 'test.db'}",
        )
        code, _, err = await command("serve", cwd=tmp_path, env=env)
        assert (code, "cannot listen on" in err) == (2, True)
    with sqlite3.connect(tmp_path / "test.db") as database:
        (attempt,) = database.execute("SELECT attempt FROM tasks WHERE id = ?", (task_id,)).fetchone()
    database.close()
    assert attempt == 1


async def test_a_journal_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    ids = await killed_with_tasks(tmp_path, 2)
    database = sqlite3.connect(tmp_path / "test.db")
    with database:
        key = "(SELECT task_key FROM tasks WHERE id = ?)"
        database.execute(f"UPDATE events SET payload = x'ffff' WHERE sequence = 1 AND task_key = {key}", (ids[0],))
    database.close()
    async with server_process(tmp_path, LLM_PROVIDER="") as server:
        assert (await server.logged("task_unreadable"))["task_id"] == ids[0]
        assert (await server.logged("started"))["tasks_recovered"] == 2


async def test_a_log_that_cannot_be_written_costs_no_call(tmp_path: Path) -> None:
    port = free_port()
    env = environment(
        API_KEY=PROCESS_KEY,
        API_HOST="127.0.0.1",
        API_PORT=str(port),
        METRICS_ENABLED="false",
        LLM_PROVIDER="scripted",
        DATABASE_URL="memory:",
    )
    full = os.open("/dev/full", os.O_WRONLY)
    process = await asyncio.create_subprocess_exec(*agent_service("serve"), cwd=tmp_path, env=env, stderr=full)
    os.close(full)
    try:
        target, local = f"127.0.0.1:{port}", (("grpc.enable_http_proxy", 0),)
        async with aio.insecure_channel(target, options=local) as channel, asyncio.timeout(60):
            await channel.channel_ready()
        async with AsyncClient(target, api_key=PROCESS_KEY) as client, asyncio.timeout(60):
            for _ in range(5):
                assert (await client.run("hello")).state == TASK_STATE_COMPLETED
        process.terminate()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
