"""A server that is started on a store that it cannot use, and one whose damage nobody could see from there."""

# Nothing else runs in these loops, so blocking them holds up nobody.
# ruff: noqa: ASYNC240

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agent_service.client import AsyncClient, CallError
from agent_service.store.sqlite.adapter import SqliteStore
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED
from tests.e2e.processes import KEY, command, environment, server_process
from tests.store.events import event, started, submitted

TASKS = 300


async def filled(path: Path) -> None:
    """Finished tasks of the only tenant, on many pages; closed, so that all of it is in the one file."""
    async with SqliteStore(path) as store:
        for number in range(TASKS):
            first = submitted(f"t{number}", tenant="default")
            first.submitted.task = "x" * 800
            await store.append([first, started(f"t{number}"), event("completed", f"t{number}", attempt=1)], attempt=0)


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def bad_root(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'events'").fetchone()
    overwrite(path, root)


def overwrite(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xfe" * 4096)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (newer, "has schema 99, newer than the "),
        (bad_root, "cannot be used: database disk image is malformed"),
    ],
)
async def test_a_store_that_cannot_be_used_is_one_line_exit_2_and_stays_as_it_was(
    tmp_path: Path, spoil: Callable[[Path], None], told: str
) -> None:
    path = tmp_path / "test.db"
    await filled(path)
    spoil(path)
    before = path.read_bytes()
    env = environment(
        API_KEY=KEY, API_HOST="127.0.0.1", API_PORT="0", METRICS_PORT="0", DATABASE_URL=f"sqlite:///{path}"
    )

    code, out, err = await command("serve", cwd=tmp_path, env=env)

    assert (code, out) == (2, "")
    assert err.startswith(f"{path} {told}")
    assert err.count("\n") == 1
    assert path.read_bytes() == before


async def test_damage_in_an_old_task_is_met_by_who_reads_it_alone_and_found_by_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    await filled(path)
    # A page full of one text, in the middle of the file.
    page = path.read_bytes().rindex(b"x" * 700, 0, path.stat().st_size // 2) // 4096 + 1
    overwrite(path, page)

    async with (
        server_process(tmp_path, TASK_RETENTION_DAYS="0") as server,
        AsyncClient(server.target, api_key=KEY) as client,
    ):
        assert (await client.run("add 2 and 3")).state == TASK_STATE_COMPLETED
        got = await asyncio.gather(*(client.get_task(f"t{number}") for number in range(TASKS)), return_exceptions=True)
        told = [one.reason if isinstance(one, CallError) else "" for one in got]
        assert 0 < told.count("STORE_UNAVAILABLE") < 10
        assert told.count("") + told.count("STORE_UNAVAILABLE") == TASKS
        assert (await client.run("add 2 and 3")).state == TASK_STATE_COMPLETED

    env = environment(DATABASE_URL=f"sqlite:///{path}")
    code, _, err = await command("tasks", "backup", str(tmp_path / "copy.db"), cwd=tmp_path, env=env)
    assert code == 2
    assert err.startswith(f"the copy of {path} is damaged: ")
    assert not list(tmp_path.glob("copy.db*"))
