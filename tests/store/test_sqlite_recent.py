"""Looking back takes no longer for all the tasks that stand behind."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent_service.store.sqlite import recent
from agent_service.store.sqlite.adapter import SqliteStore


@pytest.mark.parametrize(
    ("sql", "values", "index"),
    [
        (recent.FINISHED_TASKS, (1, 1, 1), "USING INDEX tasks_finished (update_time>?)"),
        (recent.UNFINISHED_TASKS, (1, 1, 1), "USING INDEX tasks_unfinished"),
    ],
    ids=["finished", "unfinished"],
)
async def test_recent_tasks_are_found_by_an_index(
    tmp_path: Path, sql: str, values: tuple[int, ...], index: str
) -> None:
    async with SqliteStore(tmp_path / "journal.db"):
        with closing(sqlite3.connect(tmp_path / "journal.db")) as looking:
            plan = [row[3] for row in looking.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert index in plan[0], plan
    assert len(plan) == 1 or index.endswith("tasks_unfinished"), "it comes in order, with nothing to sort"
