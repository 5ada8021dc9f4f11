"""A quick check of a SQLite store: reads one path through each table and each index, not all of their pages."""

from __future__ import annotations

import sqlite3

# One path through each table and each index, and all unfinished tasks.
LOOKS = (
    "SELECT * FROM tasks WHERE task_key = (SELECT max(task_key) FROM tasks)",
    "SELECT 1 FROM tasks WHERE id = ''",
    "SELECT count(*) FROM tasks INDEXED BY tasks_unfinished WHERE state NOT IN (4, 5, 6, 7)",
    "SELECT 1 FROM tasks INDEXED BY tasks_released WHERE state = 2 AND owner = '' AND task_key < 0",
    "SELECT 1 FROM tasks INDEXED BY tasks_due WHERE state NOT IN (4, 5, 6, 7) AND due <> 0 AND due < 1",
    "SELECT 1 FROM tasks INDEXED BY tasks_finished WHERE state IN (4, 5, 6, 7) AND update_time < 0",
    "SELECT 1 FROM tasks INDEXED BY tasks_of_tenant WHERE tenant = ''",
    "SELECT 1 FROM tasks INDEXED BY tasks_unfinished_of_tenant WHERE tenant = '' AND state NOT IN (4, 5, 6, 7)",
    "SELECT 1 FROM tasks INDEXED BY tasks_of_agent WHERE tenant = '' AND agent = ''",
    "SELECT 1 FROM tasks INDEXED BY tasks_of_key WHERE tenant = '' AND submitted_by = ''",
    "SELECT 1 FROM tasks INDEXED BY tasks_of_session WHERE tenant = '' AND session_id <> ''",
    "SELECT 1 FROM tasks INDEXED BY tasks_unfinished_of_session"
    " WHERE tenant = '' AND session_id <> '' AND state NOT IN (4, 5, 6, 7)",
    "SELECT 1 FROM tasks INDEXED BY tasks_of_request WHERE tenant = '' AND request_id = '-' AND request_id <> ''",
    "SELECT * FROM events WHERE task_key = (SELECT max(task_key) FROM tasks)",
    "SELECT 1 FROM labels WHERE tenant = ''",
    "SELECT 1 FROM labels INDEXED BY labels_of_task WHERE task_key = 0",
    "SELECT * FROM workers",
    "SELECT * FROM probe",
    "SELECT 1 FROM tasks INDEXED BY tasks_by_position WHERE position < 0",
    "SELECT * FROM positions",
    "SELECT 1 FROM usage WHERE tenant = ''",
)


def look(looking: sqlite3.Connection) -> None:
    """Read a few rows of each table and each index. A new migration adds its tables and indexes to LOOKS.

    Raises:
        sqlite3.DatabaseError: these rows are damaged.
    """
    for question in LOOKS:
        looking.execute(question).fetchall()
