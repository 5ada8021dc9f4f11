"""A copy of a live SQLite store, as of one instant, made with SQLite's own online backup."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from agent_service.errors import ConfigError
from agent_service.store.sqlite.migrations import DatabaseRefusedError, refuse_foreign

# All pages in one step: a step sees one instant, and other processes write on beside it.
ALL_PAGES = -1


def backup(source: Path, target: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Copy a store to a new file, and check the copy. `progress` gets the number of pages left, and of all pages.

    Raises:
        ConfigError: the source is not a store of this service, or the target exists or cannot be written. No partial
            target remains.
    """
    if target.exists():
        raise ConfigError([f"{target} exists already"])
    half = target.with_name(f"{target.name}.part")
    try:
        with closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as reading:
            version = refuse_foreign(reading)
            with closing(sqlite3.connect(half)) as writing:
                reading.backup(writing, pages=ALL_PAGES, progress=_of(progress))
                # The copy has no live workers, so the process that opens it need not wait until they are silent.
                if version:
                    writing.execute("DELETE FROM workers")
                    writing.commit()
                # A single file, regardless of the source's journal mode.
                writing.execute("PRAGMA journal_mode = DELETE")
                verdict = _verdict(writing)
        if verdict != "ok":
            raise ConfigError([f"the copy of {source} is damaged: {verdict}"])
        os.chmod(half, 0o600)
        _sync(half)
        os.link(half, target)  # fails if the target was created meanwhile
        _sync(target.parent)
    except DatabaseRefusedError as error:
        raise ConfigError([f"{source} {error}"]) from error
    except (OSError, sqlite3.Error) as error:
        raise ConfigError([f"cannot copy {source} to {target}: {error}"]) from error
    finally:
        half.unlink(missing_ok=True)


def _verdict(copy: sqlite3.Connection) -> str:
    """Return the result of SQLite's check of the whole file, in one line: `ok`, or the first problem."""
    try:
        (result,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error)
    return " ".join(str(result).split())


def _of(progress: Callable[[int, int], None] | None) -> Callable[[int, int, int], None] | None:
    return None if progress is None else lambda _, left, pages: progress(left, pages)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
