"""The SQLite schema as numbered migration scripts, and the check that a file belongs to this service.

Missing scripts are applied in one transaction together with their number in `PRAGMA user_version`, so a database is
always at exactly one version. Released scripts are never edited. This module is independent of the tables' meaning.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping
from importlib import resources
from types import MappingProxyType

from agent_service.store.sqlite import index, usage

# Marks a database of this service ("AGSV"), so that a foreign one is not taken for an old version.
APPLICATION_ID = 0x41475356


# Steps that a script cannot do, because they read events. Run after the last script, in the same transaction: they are
# written for the newest schema only.
FILLS: Mapping[int, Callable[[sqlite3.Connection], None]] = MappingProxyType({2: usage.fill, 5: index.fill_submitters})


class DatabaseRefusedError(Exception):
    """This version may not open the database. The text follows the file's name."""


def scripts() -> list[tuple[int, str]]:
    """Return the scripts as (resulting version, SQL), in order, counting from 1 without a gap."""
    found = sorted(
        (int(match[1]), file.read_text("utf-8"))
        for file in resources.files(__name__).iterdir()
        if (match := re.fullmatch(r"(\d{4})_\w+\.sql", file.name))
    )
    assert [version for version, _ in found] == list(range(1, len(found) + 1)), "migrations must count from 1 by one"
    return found


def refuse_foreign(connection: sqlite3.Connection) -> int:
    """Check, without writing, that a database is empty, or belongs to this service and is not newer than this code.
    Return its version; 0 if it is empty.

    Raises:
        DatabaseRefusedError: it is foreign or newer.
        sqlite3.DatabaseError: it is not a database, or is damaged.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (things,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (version, application_id, things) == (0, 0, 0):
        return 0
    if application_id != APPLICATION_ID:
        raise DatabaseRefusedError("is the SQLite database of another program")
    newest = len(scripts())
    if version > newest:
        raise DatabaseRefusedError(
            f"has schema {version}, newer than the {newest} that this version of agent-service has"
        )
    return int(version)


def migrate(connection: sqlite3.Connection) -> None:
    """Apply the missing scripts. The connection must be in autocommit mode."""
    (current,) = connection.execute("PRAGMA user_version").fetchone()
    missing = [(version, script) for version, script in scripts() if version > current]
    if not missing:
        return
    marks = f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {missing[-1][0]};"
    try:
        connection.executescript("\n".join(["BEGIN IMMEDIATE;", *(script for _, script in missing), marks]))
        for version, _ in missing:
            if version in FILLS:
                FILLS[version](connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise
