"""A task that waits for a rate limit, as a user and an operator of a real server see it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent_service.client import AsyncClient
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED
from tests.e2e.processes import KEY, agent_service, child, command, environment, server_process

# A request reserves the 1,024 tokens that a reply may have: the first task leaves too few for a second.
CONFIG = "agents: {assistant: {model: default}}\n"
LIMITS = {"RATE_LIMIT_TOKENS": "1060", "RATE_LIMIT_WINDOW": "200", "LLM_MAX_TOKENS": "1024"}


async def test_run_tasks_the_log_and_the_metrics_show_what_it_waits_for(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    async with server_process(tmp_path, **LIMITS) as server, AsyncClient(server.target, api_key=KEY) as client:
        async with asyncio.timeout(60):
            assert (await client.run("hello")).state == TASK_STATE_COMPLETED
            env = environment(API_KEY=KEY, AGENT_SERVICE_TARGET=server.target)
            async with child(*agent_service("run", "hello again"), cwd=tmp_path, env=env) as process:
                assert process.stdout is not None
                first, second = [(await process.stdout.readline()).decode() for _ in range(2)]
                task_id = first.split()[1]
                assert second.startswith(
                    "waiting for rate limit default: at most 1060 tokens in 200 s for tenant:default (rule default)"
                )
                assert " · next try in " in second
                code, shown, _ = await command("tasks", "show", task_id, cwd=tmp_path, env=env)
                assert code == 0
                assert "WORKING" in shown
                assert "waiting for rate limit default" in shown
                line = await server.logged("task_waiting")
                assert (line["task_id"], line["cause"], line["rule"]) == (task_id, "limit", "default")
                metrics = await server.metrics()
                assert 'agent_service_tasks_waiting{cause="limit",rule="default"} 1.0' in metrics
                assert 'agent_service_tasks_waiting{cause="slot",rule=""} 0.0' in metrics


async def test_config_check_tells_of_a_rate_limit_that_no_reply_fits_in(tmp_path: Path) -> None:
    settings = {"LLM_PROVIDER": "scripted", "RATE_LIMIT_TOKENS": "1000", "LLM_MAX_TOKENS": "1024"}
    code, out, err = await command("config", "check", cwd=tmp_path, env=environment(API_KEY=KEY, **settings))
    assert (code, "is valid" in out) == (0, True)
    assert err.splitlines() == [
        "warning: rate limit default admits 1000 tokens, and one reply of model default may have 1024: no task fits;"
        " raise RATE_LIMIT_TOKENS, or lower LLM_MAX_TOKENS"
    ]
