"""grpcurl, which knows the server by its reflection alone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.e2e.processes import KEY, ServerProcess, server_process
from tests.plugins.toolchain import find

pytestmark = pytest.mark.needs("grpcurl")


async def grpcurl(server: ServerProcess, *arguments: str, data: str | None = None) -> tuple[int, str, str]:
    tool = find("grpcurl")
    assert tool is not None
    given = ("-d", data) if data is not None else ()
    process = await asyncio.create_subprocess_exec(
        tool,
        "-plaintext",
        "-H",
        f"x-api-key: {KEY}",
        *given,
        server.target,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_it_describes_all_that_is_listed_and_every_method_by_its_name(tmp_path: Path) -> None:
    async with server_process(tmp_path) as server:
        code, out, err = await grpcurl(server, "describe")
        assert (code, err) == (0, "")
        for service in (
            "agent_service.v1.AgentService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
        ):
            assert f"{service} is a service" in out
        for method in (
            "agent_service.v1.AgentService.RunTask",
            "agent_service.v1.AgentService.StreamTask",
            "grpc.health.v1.Health.Check",
            "grpc.reflection.v1.ServerReflection.ServerReflectionInfo",
            "grpc.reflection.v1alpha.ServerReflection.ServerReflectionInfo",
        ):
            code, out, err = await grpcurl(server, "describe", method)
            assert (code, f"{method} is a method" in out) == (0, True), err
        for symbol in (
            "agent_service.v1.RunTaskRequest.task",
            "agent_service.v1.TaskState",
            "agent_service.v1.TASK_STATE_WORKING",
        ):
            assert (await grpcurl(server, "describe", symbol))[0] == 0
        code, out, _ = await grpcurl(server, "describe", "agent_service.v1.RunTaskRequest")
        assert "  // The conversation that it belongs to" in out
        for nothing in ("agent_service.v1.AgentService.Nope", "agent_service.v1.Nope", "Nope", "a..b", "."):
            assert (await grpcurl(server, "describe", nothing))[0] != 0


async def test_it_lists_describes_and_calls_every_shape(tmp_path: Path) -> None:
    async with server_process(tmp_path) as server:
        code, out, _ = await grpcurl(server, "list")
        assert code == 0
        assert {"agent_service.v1.AgentService", "grpc.health.v1.Health"} <= set(out.split())

        code, out, _ = await grpcurl(server, "describe", "agent_service.v1.AgentService")
        assert code == 0
        for method in ("RunTask", "StreamTask", "GetTask", "ToolInvoke", "ListAgents", "ListTools"):
            assert f"rpc {method} (" in out

        code, out, err = await grpcurl(
            server, "agent_service.v1.AgentService/RunTask", data='{"task":"What is 17.5% of 2340?"}'
        )
        assert code == 0, err
        task = json.loads(out)["task"]
        assert task["state"] == "TASK_STATE_COMPLETED"
        assert "409.5" in task["output"]

        code, out, _ = await grpcurl(
            server, "agent_service.v1.AgentService/StreamTask", data='{"run":{"task":"What is 17.5% of 2340?"}}'
        )
        assert code == 0
        for arm in ("submitted", "modelStarted", "toolStarted", "toolFinished", "textDelta", "completed"):
            assert f'"{arm}": {{' in out

        code, out, _ = await grpcurl(
            server,
            "agent_service.v1.AgentService/ToolInvoke",
            data='{"tool_name":"calculator","inputs":{"expression":"17.5% of 2340"}}',
        )
        assert code == 0
        assert json.loads(out)["output"] in (409.5, "409.5")

        code, _, err = await grpcurl(server, "agent_service.v1.AgentService/RunTask", data='{"task":""}')
        assert code != 0
        assert "InvalidArgument" in err
        assert "FIELD_INVALID" in err
