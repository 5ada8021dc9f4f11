"""`agent-service serve` as a process: start, signals, restart."""

from __future__ import annotations

import asyncio
import signal
from contextlib import aclosing
from pathlib import Path

import pytest

from agent_service.client import AsyncClient, CallError
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_WORKING
from tests.e2e.processes import KEY, ServerProcess, command, environment, server_process
from tests.harness import SOON_S

SCRIPT = """
- match: slow
  turns:
    - text: one two three four five six
      chunk_delay_s: {delay}
- match: .*
  turns:
    - text: done
"""

CONFIG = """
models:
  default: {provider: scripted, script: script.yaml}
agents:
  assistant: {model: default}
"""


def scripted(directory: Path, delay: float) -> dict[str, str]:
    (directory / "script.yaml").write_text(SCRIPT.format(delay=delay))
    (directory / "config.yaml").write_text(CONFIG)
    return {"LLM_PROVIDER": ""}


async def test_it_answers_the_demos_task_out_of_a_real_tool_call(tmp_path: Path) -> None:
    async with server_process(tmp_path) as server, AsyncClient(server.target, api_key=KEY) as client:
        async with aclosing(client.stream("What is 17.5% of 2340?")) as events:
            seen = [event async for event in events]
        results = [event.tool_finished.output_json for event in seen if event.HasField("tool_finished")]
        assert [result.strip('"') for result in results] == ["409.5"]
        assert "409.5" in seen[-1].completed.output


async def test_sigterm_lets_a_running_call_end_and_exits_0(tmp_path: Path) -> None:
    settings = scripted(tmp_path, 0.05)
    async with server_process(tmp_path, **settings) as server, AsyncClient(server.target, api_key=KEY) as client:
        stream = client.stream("slow")
        await anext(stream)
        server.process.send_signal(signal.SIGTERM)
        await server.logged("draining")
        arms = [event.WhichOneof("event") async for event in stream]
        assert arms[-1] == "completed"
        assert await server.process.wait() == 0
        await server.logged("stopped")
        assert server.log[-1]["event"] == "stopped"


def patient(server: ServerProcess, seconds: float) -> AsyncClient:
    return AsyncClient(server.target, api_key=KEY, patience_s=seconds)


async def test_a_draining_server_turns_work_away_and_still_shows_tasks(tmp_path: Path) -> None:
    settings = scripted(tmp_path, 0.05)
    async with server_process(tmp_path, **settings) as server, patient(server, 0) as client:
        stream = client.stream("slow")
        first = await anext(stream)
        server.process.send_signal(signal.SIGTERM)
        await server.logged("draining")
        with pytest.raises(CallError) as refused:
            await client.run("more")
        assert (refused.value.code, refused.value.reason) == ("UNAVAILABLE", "DRAINING")
        assert (await client.get_task(first.task_id)).state == TASK_STATE_WORKING
        assert await client.health("liveness") == "SERVING"
        assert await client.health("readiness") == "NOT_SERVING"
        await stream.aclose()
        assert await server.process.wait() == 0


async def test_a_task_longer_than_the_grace_is_released_and_goes_on_after_the_restart(tmp_path: Path) -> None:
    settings = scripted(tmp_path, 30) | {"DRAIN_GRACE": "0.1"}
    async with server_process(tmp_path, **settings) as server, patient(server, 0) as client:
        stream = client.stream("slow")
        task_id = (await anext(stream)).task_id
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(CallError) as ended:
            async for _ in stream:
                pass
        assert ended.value.reason == "DRAINING"
        assert ended.value.metadata["task_id"] == task_id
        assert int(ended.value.metadata["last_sequence"]) >= 3
        assert await server.process.wait() == 0
    await goes_on_after_restart(tmp_path, task_id)


async def test_kill_9_loses_no_accepted_task(tmp_path: Path) -> None:
    settings = scripted(tmp_path, 30)
    async with server_process(tmp_path, **settings) as server, patient(server, 0) as client:
        stream = client.stream("slow")
        task_id = (await anext(stream)).task_id
        server.process.kill()
        with pytest.raises(CallError):
            async for _ in stream:
                pass
    await goes_on_after_restart(tmp_path, task_id)


async def goes_on_after_restart(directory: Path, task_id: str) -> None:
    """The same store under a new process, with a script that answers at once."""
    settings = scripted(directory, 0)
    async with server_process(directory, **settings) as server, AsyncClient(server.target, api_key=KEY) as client:
        assert (await server.logged("started"))["tasks_recovered"] == 1
        async with asyncio.timeout(SOON_S):
            assert (await server.logged("task"))["task_id"] == task_id
        task = await client.get_task(task_id)
        assert (task.state, task.attempt) == (TASK_STATE_COMPLETED, 2)


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    settings = scripted(tmp_path, 30)
    async with server_process(tmp_path, **settings) as server, AsyncClient(server.target, api_key=KEY) as client:
        stream = client.stream("slow")
        await anext(stream)
        server.process.send_signal(signal.SIGTERM)
        await server.logged("draining")
        server.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(SOON_S):
            assert await server.process.wait() == 128 + signal.SIGINT
        await stream.aclose()


async def test_the_metrics_are_served_on_a_port_of_their_own(tmp_path: Path) -> None:
    async with server_process(tmp_path) as server, AsyncClient(server.target, api_key=KEY) as client:
        await client.run("hello")
        body = await server.metrics()
        assert 'grpc_server_handled_total{grpc_code="OK",grpc_method="RunTask"' in body
        assert 'agent_service_tasks_total{kind="AGENT",reason="",state="COMPLETED"} 1.0' in body
        assert "agent_service_build_info{" in body
        assert 'agent_service_ready{check="store"} 1.0' in body


async def test_a_port_in_use_is_one_clear_line_and_exit_2(tmp_path: Path) -> None:
    async with server_process(tmp_path) as server:
        env = environment(API_KEY=KEY, API_HOST="127.0.0.1", METRICS_ENABLED="false", DATABASE_URL="memory:")
        code, _, err = await command("serve", "--port", str(server.port), cwd=tmp_path, env=env)
        assert code == 2
        assert f"cannot listen on 127.0.0.1:{server.port}" in err
        assert "Traceback" not in err


async def test_development_without_a_key_makes_one_and_shows_it_once(tmp_path: Path) -> None:
    async with server_process(tmp_path, API_KEY="") as server:
        (line,) = [line for line in server.stderr if "API_KEY" in line]
        key = line.split()[-1]
        async with AsyncClient(server.target, api_key=key) as client:
            await client.list_tools()
        assert key not in "".join(other for other in server.stderr if other != line)
