"""Looking into a server that runs: SIGUSR1 and channelz."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

from agent_service.client import AsyncClient
from tests.e2e.processes import KEY, ServerProcess, command, environment, server_process


async def test_sigusr1_tells_what_runs_and_where_it_stands(tmp_path: Path) -> None:
    async with server_process(tmp_path) as server, AsyncClient(server.target, api_key=KEY) as client:
        task = await client.submit("What is 17.5% of 2340?", request_id="a-canary-of-the-request")
        async for _ in client.watch(task.id):
            pass
        server.process.send_signal(signal.SIGUSR1)
        async with asyncio.timeout(20):
            told = await server.logged("dump")

        assert told["asyncio_tasks"] > 0
        stacks = [line for line in server.log if line["event"] == "stack"]
        assert sum(line["count"] for line in stacks) == told["asyncio_tasks"]
        assert any("serve" in place for line in stacks for place in line["at"])
        text = "".join(server.stderr)
        assert "Stack (most recent call first):" in text, "the loop's thread, as the signal's own handler writes it"
        assert "Thread 0x" in text, "then all threads"
        assert "17.5%" not in text

        assert await client.health() == "SERVING", "and nothing ends"


async def test_a_running_task_is_told_with_its_age_and_no_text(tmp_path: Path) -> None:
    module = tmp_path / "slow_tools.py"
    module.write_text(
        "import asyncio\nfrom agent_service.tools.decorator import tool\n"
        "@tool(side_effect='read_only', timeout_s=60)\n"
        "async def wait_long() -> str:\n    '''Waits.'''\n    await asyncio.sleep(60)\n    return ''\n"
    )
    (tmp_path / "config.yaml").write_text(
        "models: {m: {provider: scripted}}\n"
        "agents: {assistant: {model: m, instructions: Help., tools: [wait_long]}}\n"
        "tools: {modules: [slow_tools]}\n"
    )
    settings = {"PYTHONPATH": str(tmp_path), "LLM_PROVIDER": ""}
    async with server_process(tmp_path, **settings) as server, AsyncClient(server.target, api_key=KEY) as client:
        call = asyncio.create_task(client.invoke_tool("wait_long"))
        async with asyncio.timeout(20):
            while not (listed := await client.list_tasks(full=True)).tasks:
                pass
            while (await client.get_task(listed.tasks[0].id)).last_sequence < 3:
                pass
        server.process.send_signal(signal.SIGUSR1)
        async with asyncio.timeout(20):
            await server.logged("dump")
        (line,) = [line for line in server.log if line["event"] == "running_task"]
        out = await dumped(server)
        call.cancel()

    assert (line["tenant"], line["state"], line["attempt"]) == ("default", "WORKING", 1)
    assert 0 <= line["silent_s"] <= line["age_s"] < line["deadline_in_s"]
    at = [place for each in server.log if each["event"] == "stack" for place in each["at"]]
    assert any(place.endswith(" wait_long") for place in at), "down to the line of the tool"

    assert out[0] == f"server {server.process.pid} on port {server.port}, {tmp_path / 'test.db'}"
    assert out[1].startswith(f"task {line['task_id']} default wait_long WORKING silent for ")
    assert out[2].endswith(" run"), "and where the task stands"
    assert "1 tasks run here" in out
    assert any(" wait_long" in place for place in out)
    assert any(place.startswith(("Thread 0x", "Current thread 0x")) for place in out)


async def dumped(server: ServerProcess, *options: str) -> list[str]:
    """What `tasks dump` shows of it."""
    arguments = ("tasks", "dump", "--pid", str(server.process.pid), *options)
    code, out, err = await command(*arguments, cwd=server.directory, env=environment())
    assert (code, err) == (0, "")
    return out.splitlines()


async def test_a_loop_that_is_stuck_is_told_with_the_line_that_it_is_stuck_at(tmp_path: Path) -> None:
    (tmp_path / "stuck_tools.py").write_text(
        "import sys, time\nfrom agent_service.tools.decorator import tool\n"
        "@tool(side_effect='read_only', timeout_s=60)\n"
        "async def block() -> str:\n    '''Blocks.'''\n"
        "    print('stuck', file=sys.stderr, flush=True)\n    time.sleep(60)\n    return ''\n"
    )
    (tmp_path / "config.yaml").write_text(
        "models: {m: {provider: scripted}}\n"
        "agents: {assistant: {model: m, instructions: Help., tools: [block]}}\n"
        "tools: {modules: [stuck_tools]}\n"
    )
    settings = {"PYTHONPATH": str(tmp_path), "LLM_PROVIDER": ""}
    async with server_process(tmp_path, **settings) as server, AsyncClient(server.target, api_key=KEY) as client:
        call = asyncio.create_task(client.invoke_tool("block"))
        async with asyncio.timeout(20):
            await server.told("stuck")
            server.process.send_signal(signal.SIGUSR1)
            await server.told(" in block")
            out = await dumped(server, "--timeout", "0.2")
        call.cancel()
    assert out[1].startswith("the event loop has not answered for 0.2 s: ")
    assert out[2].startswith("task ")
    assert " default block attempt 1 silent for " in out[2]
    assert out[3] == "1 tasks run here, by the store"
    assert out[5].endswith(" in block"), "the thread of the event loop first, and where it is stuck"


CHURN = """
import threading

from agent_service.tools.decorator import tool


@tool(side_effect="read_only", timeout_s=60)
def nothing() -> str:
    "Does nothing."
    return ""


def recurse(depth):
    if depth:
        recurse(depth - 1)


def work():
    for _ in range(50):
        recurse(300)


def churn():
    while True:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()


for _ in range(3):
    threading.Thread(target=churn, daemon=True).start()
"""


async def test_dumps_do_not_end_a_server_whose_threads_begin_and_end(tmp_path: Path) -> None:
    (tmp_path / "churn_tools.py").write_text(CHURN)
    (tmp_path / "config.yaml").write_text(
        "models: {m: {provider: scripted}}\n"
        "agents: {assistant: {model: m, instructions: Help.}}\n"
        "tools: {modules: [churn_tools]}\n"
    )
    settings = {"PYTHONPATH": str(tmp_path), "LLM_PROVIDER": ""}
    async with server_process(tmp_path, **settings) as server, AsyncClient(server.target, api_key=KEY) as client:
        async with asyncio.timeout(150):
            for _ in range(40):
                server.process.send_signal(signal.SIGUSR2)
                server.process.send_signal(signal.SIGUSR1)
                await server.logged("dump")
                server.log.clear()
            assert await client.health() == "SERVING"


async def test_a_dump_where_no_server_runs_says_so(tmp_path: Path) -> None:
    code, out, err = await command("tasks", "dump", "--pid", "1", cwd=tmp_path, env=environment())
    assert (code, out, err) == (1, "", "no server runs here whose process this user may inspect\n")


async def test_channelz_tells_of_connections_on_a_port_of_its_own(tmp_path: Path) -> None:
    async with server_process(tmp_path, CHANNELZ_PORT="0") as server:
        port = (await server.logged("started"))["channelz_port"]
        async with (
            AsyncClient(server.target, api_key=KEY) as client,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            await client.run("add 2 and 3")
            stub = channelz_pb2_grpc.ChannelzStub(channel)
            servers = (await stub.GetServers(channelz_pb2.GetServersRequest())).server

        assert max(one.data.calls_succeeded for one in servers) >= 1

        async with grpc.aio.insecure_channel(server.target) as channel:
            stub = channelz_pb2_grpc.ChannelzStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.GetServers(channelz_pb2.GetServersRequest())
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED, "as for every method that nobody has"
