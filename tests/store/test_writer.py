"""The writer thread: one append's fault is its own, and what is durable is told as durable."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agent_service.errors import InternalError, OverloadedError
from agent_service.journal.append import Append
from agent_service.journal.append_rule import Admitted, View, admit
from agent_service.journal.refusals import AppendRefusedError
from agent_service.store.sqlite import batch, index
from agent_service.store.sqlite.adapter import SqliteStore
from tests.store.events import beginning, ending, submitted, unfinished
from tests.store.test_sqlite import write_lock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.mark.parametrize("error", [MemoryError, sqlite3.DataError, sqlite3.DatabaseError, ValueError])
async def test_an_append_that_faults_fails_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:

    def faulty(view: View, append: Append) -> Admitted | AppendRefusedError:
        if append.task_id == "t3":
            raise error("for one task")
        return admit(view, append)

    monkeypatch.setattr(batch, "admit", faulty)
    async with SqliteStore(path) as store:
        with write_lock(path):
            appended = [store.append(beginning(f"t{n}"), attempt=0) for n in range(6)]
        outcomes = await asyncio.gather(*appended, return_exceptions=True)
        failed = OverloadedError if issubclass(error, sqlite3.Error) else InternalError
        assert [type(outcome) for outcome in outcomes if isinstance(outcome, Exception)] == [failed]
        assert isinstance(outcomes[3], Exception)
        assert await unfinished(store) == ["t0", "t1", "t2", "t4", "t5"]
        await store.append(ending("t0"), attempt=1)


async def test_a_fault_that_comes_once_fails_no_append(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, faults = batch.Batch.commit, [MemoryError()]

    def faulty(self: batch.Batch, entries: Any, *, probe: bool) -> Any:
        if len(entries) > 1 and faults:
            raise faults.pop()
        return commit(self, entries, probe=probe)

    monkeypatch.setattr(batch.Batch, "commit", faulty)
    async with SqliteStore(path) as store:
        with write_lock(path):
            appended = [store.append(beginning(f"t{n}"), attempt=0) for n in range(6)]
        await asyncio.gather(*appended)
        assert not faults
        assert len(await unfinished(store)) == 6


async def test_a_fault_behind_a_commit_is_not_told_as_a_failed_commit(path: Path) -> None:
    def faulty(_: int, __: float) -> None:
        raise RuntimeError("metrics")

    async with SqliteStore(path, on_commit=faulty) as store:
        await store.append(beginning(), attempt=0)
        await store.append(ending(), attempt=1)
        assert len(await store.read("t")) == 4


async def test_a_session_is_erased_in_bounded_commits_and_new_tasks_stay(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_service.store.sqlite.adapter.ERASED_AT_ONCE", 2)
    async with SqliteStore(path) as store:
        for n in range(5):
            _, *rest = beginning(f"t{n}")
            await store.append([submitted(f"t{n}", session="s"), *rest, *ending(f"t{n}")], attempt=0)
        loop, begun, erase_keys = asyncio.get_running_loop(), asyncio.Event(), index._erase_keys

        def erase(*args: Any) -> None:
            erase_keys(*args)
            loop.call_soon_threadsafe(begun.set)

        monkeypatch.setattr(index, "_erase_keys", erase)
        erasing = asyncio.ensure_future(store.erase_session("acme", "s"))
        await begun.wait()
        await store.append([submitted("late", session="s")], attempt=0)
        assert await erasing == 5
        assert await unfinished(store) == ["late"]
