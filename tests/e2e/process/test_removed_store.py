"""A store whose file is taken away from under its server."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_service.client import AsyncClient
from agent_service.errors import OverloadedError
from agent_service.store.sqlite.adapter import SqliteStore
from tests.e2e.processes import KEY, server_process


def remove(store: Path) -> None:
    store.unlink()


def replace(store: Path) -> None:
    shutil.copy(store, store.with_suffix(".copy"))
    store.with_suffix(".copy").rename(store)


def move(store: Path) -> None:
    store.rename(store.with_suffix(".old"))


def remove_log(store: Path) -> None:
    store.with_name(store.name + "-wal").unlink()


CHANGES = [remove, replace, move, remove_log]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_a_store_that_is_not_the_one_that_was_opened_is_not_ready(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "tasks.db"
    async with SqliteStore(path) as store:
        await store.check()
        change(path)

        with pytest.raises(OverloadedError, match="removed or replaced"):
            await store.check()


async def test_a_server_whose_store_was_removed_says_that_it_is_not_ready(tmp_path: Path) -> None:
    async with server_process(tmp_path) as server, AsyncClient(server.target, api_key=KEY) as client:
        assert await client.health("readiness") == "SERVING"
        (tmp_path / "test.db").unlink()

        async with asyncio.timeout(30):
            failing = await server.logged("readiness_failing")
        assert (failing["check"], "removed or replaced" in failing["cause"]) == ("store", True)
        assert await client.health("readiness") == "NOT_SERVING"
        assert await client.health("liveness") == "SERVING"
