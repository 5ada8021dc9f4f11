"""Queries for recent events in a SQLite journal, page by page. Each runs in a reader's thread."""

from __future__ import annotations

import sqlite3
from itertools import groupby
from typing import NamedTuple

from agent_service.journal.payloads import events_since
from agent_service.store.base import Recent
from agent_service.store.sqlite.index import FINISHED, UNFINISHED

# Tasks in one page; their events are read into memory together.
PAGE = 200

# Unfinished tasks are few, and are scanned by their own index; finished ones are found by the time of their end.
UNFINISHED_TASKS = f"""
    SELECT task_key, update_time, tenant, agent FROM tasks INDEXED BY tasks_unfinished
    WHERE {UNFINISHED} AND update_time >= ? AND task_key > ? ORDER BY task_key LIMIT ?
"""  # noqa: S608
FINISHED_TASKS = f"""
    SELECT task_key, update_time, tenant, agent FROM tasks
    WHERE {FINISHED} AND (update_time, task_key) > (?, ?) ORDER BY update_time, task_key LIMIT ?
"""  # noqa: S608
EVENTS = "SELECT task_key, sequence, payload FROM events WHERE task_key IN ({keys}) ORDER BY task_key, sequence"


class Place(NamedTuple):
    """The task after which the next page begins: unfinished tasks by key, then finished ones by time and key."""

    finished: bool = False
    update_time: int = 0
    task_key: int = 0


def page(reader: sqlite3.Connection, since_us: int, place: Place) -> tuple[list[tuple[int, Recent]], Place | None]:
    """Return the tasks after a place, each with its key, and the place after them; None if there are no more."""
    if place.finished:
        tasks = reader.execute(FINISHED_TASKS, (place.update_time, place.task_key, PAGE)).fetchall()
    else:
        tasks = reader.execute(UNFINISHED_TASKS, (since_us, place.task_key, PAGE)).fetchall()
    events = reader.execute(EVENTS.format(keys=", ".join(str(key) for key, *_ in tasks))).fetchall()
    of_task = {
        key: events_since(((payload, sequence) for _, sequence, payload in rows), since_us)
        for key, rows in groupby(events, key=lambda row: row[0])
    }
    found = [(key, Recent(tenant, agent, of_task.get(key, []))) for key, _, tenant, agent in tasks]
    if len(tasks) == PAGE:
        return found, Place(place.finished, tasks[-1][1], tasks[-1][0])
    return found, None if place.finished else Place(finished=True, update_time=since_us)
