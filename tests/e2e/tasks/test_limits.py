"""Limits as callers meet them, over restarts and over several processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent_service.client import AsyncClient, CallError
from tests.e2e.processes import KEY, ServerProcess, server_process


async def admitted(server: ServerProcess, calls: int) -> int:
    """How many of so many calls are not refused for their number."""
    async with AsyncClient(server.target, api_key=KEY, patience_s=0) as client:
        passed = 0
        for _ in range(calls):
            try:
                await client.run("hello")
            except CallError as error:
                if error.reason != "RATE_LIMITED_CALLS":
                    raise
            else:
                passed += 1
        return passed


async def test_a_restart_forgets_nothing_that_a_window_still_covers(tmp_path: Path) -> None:
    settings = {"RATE_LIMIT_CALLS": "5", "RATE_LIMIT_WINDOW": "3600"}
    async with server_process(tmp_path, **settings) as server:
        assert await admitted(server, 3) == 3
        server.process.kill()
    async with server_process(tmp_path, **settings) as server:
        replayed = await server.logged("limits_replayed")
        assert replayed["tasks"] == 3
        assert replayed["duration_ms"] < 5000
        assert await admitted(server, 5) == 2


async def test_processes_of_one_store_divide_each_limit_and_who_is_left_has_all_of_it(tmp_path: Path) -> None:
    settings = {"RATE_LIMIT_CALLS": "8", "RATE_LIMIT_WINDOW": "3600"}
    async with server_process(tmp_path, **settings) as first:
        async with server_process(tmp_path, **settings) as second:
            assert await admitted(second, 6) == 4
            second.process.kill()
        async with asyncio.timeout(30):
            passed = 0
            while passed < 8:  # it learns within seconds that it is alone
                passed += await admitted(first, 1)
        assert await admitted(first, 1) == 0
