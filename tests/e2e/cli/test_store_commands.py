"""`agent-service tasks prune` and `tasks backup` on the store of a server that works on."""

# Nothing else runs in these loops, so blocking them holds up nobody.
# ruff: noqa: ASYNC240

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from agent_service.client import AsyncClient, CallError
from agent_service.engine.task.state import FoldedTask
from agent_service.store.base import TaskQuery
from agent_service.store.sqlite.adapter import SqliteStore
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, Task
from tests.e2e.processes import KEY, command, environment, server_process
from tests.store.events import event, started, submitted

OLD_TASKS = 500
LIMITS = {"RATE_LIMIT_CALLS": "1000000", "RATE_LIMIT_TOKENS": "1000000000"}
CONFIG = """
models:
  default: {provider: scripted, script: script.yaml}
agents:
  assistant: {model: default, tools: [calculator]}
"""
SCRIPT = """
- match: slow
  turns:
    - {text: at last, delay_s: DELAY}
- match: .*
  turns:
    - {tool_calls: [{name: calculator, arguments: {expression: 1 + 1}}]}
    - {text: done}
"""


def settings(directory: Path, delay_s: int) -> dict[str, str]:
    (directory / "config.yaml").write_text(CONFIG)
    (directory / "script.yaml").write_text(SCRIPT.replace("DELAY", str(delay_s)))
    return LIMITS | {"LLM_PROVIDER": "", "TASK_RETENTION_DAYS": "0"}


async def with_old_tasks(path: Path) -> None:
    async with SqliteStore(path) as store:
        for number in range(OLD_TASKS):
            name = f"old-{number}"
            first = submitted(name, tenant="default", labels={"env": "prod"}, request=name)
            await store.append([first, started(name), event("completed", name, attempt=1)], attempt=0)


class Load:
    """Users of a server who want one task after the other."""

    def __init__(self) -> None:
        self.done: list[Task] = []
        self._more = asyncio.Condition()

    @asynccontextmanager
    async def on(self, client: AsyncClient) -> AsyncIterator[None]:
        users = [asyncio.ensure_future(self._user(client)) for _ in range(4)]
        try:
            await self.has_done(10)
            yield
            await self.has_done(len(self.done) + 10)
        finally:
            for user in users:
                user.cancel()
            ended = await asyncio.gather(*users, return_exceptions=True)
        assert {type(one) for one in ended} == {asyncio.CancelledError}

    async def has_done(self, count: int) -> None:
        async with asyncio.timeout(60), self._more:
            await self._more.wait_for(lambda: len(self.done) >= count)

    async def _user(self, client: AsyncClient) -> None:
        while True:
            task = await client.run("go")
            assert task.state == TASK_STATE_COMPLETED
            async with self._more:
                self.done.append(task)
                self._more.notify_all()


async def test_prune_erases_the_old_beside_a_server_under_load(tmp_path: Path) -> None:
    await with_old_tasks(tmp_path / "test.db")
    load = Load()
    async with (
        server_process(tmp_path, **settings(tmp_path, 0)) as server,
        AsyncClient(server.target, api_key=KEY, patience_s=0) as client,
    ):
        assert (await client.get_task("old-0")).state == TASK_STATE_COMPLETED
        async with load.on(client):
            env = environment(DATABASE_URL="sqlite:///test.db")
            code, out, err = await command("tasks", "prune", "--older-than", "30", cwd=tmp_path, env=env)
        assert (code, err) == (0, "")
        assert out == f"{OLD_TASKS} tasks deleted; their space in test.db is reused\n"
        with pytest.raises(CallError, match="TASK_NOT_FOUND"):
            await client.get_task("old-0")
        for task in load.done:
            assert await client.get_task(task.id) == task
    with closing(sqlite3.connect(tmp_path / "test.db")) as connection:
        assert connection.execute("SELECT count(*) FROM labels").fetchone() == (0,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_backup_of_a_server_under_load_restores_to_a_whole_store(tmp_path: Path) -> None:
    load = Load()
    copy = tmp_path / "copy.db"
    async with (
        server_process(tmp_path, **settings(tmp_path, 600)) as server,
        AsyncClient(server.target, api_key=KEY, patience_s=0) as client,
    ):
        unfinished = await client.submit("slow", request_id="slow", timeout_s=1000)
        async with load.on(client):
            before = list(load.done)
            env = environment(DATABASE_URL="sqlite:///test.db")
            code, out, err = await command("tasks", "backup", str(copy), cwd=tmp_path, env=env)
            assert (code, err) == (0, "")
            assert out == f"test.db copied to {copy}, {copy.stat().st_size} bytes, checked\n"
            again, _, told = await command("tasks", "backup", str(copy), cwd=tmp_path, env=env)
            assert (again, told) == (2, f"{copy} exists already\n")
    assert copy.stat().st_mode & 0o777 == 0o600
    await is_whole(copy)

    # Restored: the files of the old store go, the copy takes its name.
    for file in tmp_path.glob("test.db*"):
        if file.is_file():
            file.unlink()
    copy.rename(tmp_path / "test.db")
    async with (
        server_process(tmp_path, **settings(tmp_path, 0)) as server,
        AsyncClient(server.target, api_key=KEY, patience_s=0) as client,
    ):
        for task in before:
            assert await client.get_task(task.id) == task
        # What was unfinished then goes on, and its request_id still names it.
        assert (await client.run("slow", request_id="slow", timeout_s=1000)).id == unfinished.id
        assert (await client.run("go")).state == TASK_STATE_COMPLETED


async def is_whole(path: Path) -> None:
    """Every journal without a gap, and foldable."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    async with SqliteStore(path) as store:
        rows = (await store.list_tasks(TaskQuery(limit=100_000))).rows
        assert rows
        for row in rows:
            journal: list[TaskEvent] = await store.read(row.task_id)
            assert [one.sequence for one in journal] == list(range(1, len(journal) + 1))
            FoldedTask.fold(journal)


@pytest.mark.parametrize(
    ("arguments", "database", "told"),
    [
        (("prune", "--older-than", "1"), "memory:", "DATABASE_URL names no file\n"),
        (("prune", "--older-than", "1"), "sqlite:///none.db", "none.db does not exist\n"),
        (("backup", "copy.db"), "sqlite:///none.db", "none.db does not exist\n"),
        (("backup", "no/copy.db"), "sqlite:///test.db", "cannot copy test.db to no/copy.db: unable to open"),
        (("backup", "copy.db"), "sqlite:///foreign.db", "foreign.db is the SQLite database of another program\n"),
    ],
)
async def test_what_cannot_be_done_is_one_line_exit_2_and_leaves_nothing(
    tmp_path: Path, arguments: tuple[str, ...], database: str, told: str
) -> None:
    async with SqliteStore(tmp_path / "test.db"):
        pass
    with closing(sqlite3.connect(tmp_path / "foreign.db")) as connection:
        connection.execute("CREATE TABLE cookies (name TEXT)")
    before = (tmp_path / "test.db").read_bytes()
    code, out, err = await command("tasks", *arguments, cwd=tmp_path, env=environment(DATABASE_URL=database))
    assert (code, out) == (2, "")
    assert err.startswith(told)
    assert err.count("\n") == 1
    assert (tmp_path / "test.db").read_bytes() == before
    assert not list(tmp_path.rglob("copy.db*"))
    assert not list(tmp_path.rglob("none.db*"))
