"""Which files the SQLite store opens, and what it says of those that it does not."""

# Nothing else runs in these loops, so blocking them holds up nobody.
# ruff: noqa: ASYNC221, ASYNC240

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from agent_service.errors import ConfigError
from agent_service.store.sqlite import adapter, migrations
from agent_service.store.sqlite.adapter import SqliteStore
from tests.store.events import beginning, ending, unfinished

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def refusal_of(path: Path) -> str:
    """What the store says of a file that it does not open, after the file's name; the file must stay as it was."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(ConfigError) as refused:
        async with SqliteStore(path):
            pytest.fail("it was opened")
    assert (path.read_bytes() if path.is_file() else None) == before
    (problem,) = refused.value.problems
    assert problem.startswith(f"{path} ")
    assert "\n" not in problem
    return problem.removeprefix(f"{path} ")


async def closed_store(path: Path) -> None:
    async with SqliteStore(path) as store:
        await store.append(beginning(), attempt=0)


async def test_a_new_file_is_made_for_nobody_else_to_read(path: Path) -> None:
    await closed_store(path)

    assert path.stat().st_mode & 0o777 == 0o600


async def test_an_empty_file_is_taken_as_a_new_one(path: Path) -> None:
    path.touch()

    await closed_store(path)

    async with SqliteStore(path) as store:
        assert await unfinished(store) == ["t"]


@pytest.mark.parametrize("content", [b"not a database, but a letter\n" * 400, bytes(600), b"SQLite format 3\x00" * 300])
async def test_a_file_that_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    assert await refusal_of(path) in (
        "is not a SQLite database",
        "cannot be used: database disk image is malformed",
    )


@pytest.mark.parametrize("kept", [0.5, 0.1])
async def test_a_file_that_was_cut_is_refused(path: Path, kept: float) -> None:
    await closed_store(path)
    os.truncate(path, int(path.stat().st_size * kept))

    assert await refusal_of(path) == "cannot be used: database disk image is malformed"


async def test_a_file_with_a_damaged_schema_is_refused(path: Path) -> None:
    await closed_store(path)
    with path.open("r+b") as file:
        file.seek(100)  # behind the header of the file
        file.write(b"\xfe" * 3996)

    assert await refusal_of(path) == "cannot be used: database disk image is malformed"


async def test_damage_at_the_root_of_any_table_or_index_is_seen(path: Path) -> None:
    await closed_store(path)
    with closing(sqlite3.connect(path)) as connection:
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0").fetchall())
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    whole = path.read_bytes()
    assert len(roots) > 10

    for name, root in roots.items():
        damaged = bytearray(whole)
        damaged[(root - 1) * page_bytes : root * page_bytes] = b"\xfe" * page_bytes
        path.write_bytes(damaged)
        assert await refusal_of(path) == "cannot be used: database disk image is malformed", name


async def test_the_database_of_another_program_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE cookies (name TEXT); PRAGMA user_version = 1;")

    assert await refusal_of(path) == "is the SQLite database of another program"


async def test_a_schema_newer_than_the_code_is_refused(path: Path) -> None:
    await closed_store(path)
    newest = len(migrations.scripts())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {newest + 1}")

    assert await refusal_of(path) == (
        f"has schema {newest + 1}, newer than the {newest} that this version of agent-service has"
    )


async def test_a_newer_database_that_was_not_closed_properly_is_left_as_it_was(path: Path, tmp_path: Path) -> None:
    await closed_store(path)
    crashed = tmp_path / "crashed.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
        shutil.copy(path, crashed)
        shutil.copy(f"{path}-wal", f"{crashed}-wal")
    log = Path(f"{crashed}-wal").read_bytes()

    assert "has schema 99" in await refusal_of(crashed)

    assert log
    assert Path(f"{crashed}-wal").read_bytes() == log


async def test_a_migration_that_fails_leaves_the_version_before_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await closed_store(path)
    scripts = migrations.scripts()
    newest = len(scripts)
    broken = (newest + 1, "CREATE TABLE half (done INTEGER); INSERT INTO nowhere VALUES (1);")
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "scripts", lambda: [*scripts, broken])
        assert await refusal_of(path) == "cannot be used: no such table: nowhere"

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (newest,)
        assert connection.execute("SELECT name FROM sqlite_schema WHERE name = 'half'").fetchall() == []
    async with SqliteStore(path) as store:
        await store.append(ending(), attempt=1)


async def test_a_migration_is_applied_once_to_a_store_with_journals(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await closed_store(path)
    scripts = migrations.scripts()
    monkeypatch.setattr(
        migrations, "scripts", lambda: [*scripts, (len(scripts) + 1, "CREATE TABLE more (done INTEGER);")]
    )

    for _ in range(2):
        async with SqliteStore(path) as store:
            assert len(await store.read("t")) == 2


async def test_a_directory_that_does_not_exist_is_named(path: Path) -> None:
    missing = path.parent / "no" / "journal.db"

    assert await refusal_of(missing) == f"cannot be made: there is no directory {missing.parent}"


async def test_a_directory_in_place_of_the_file_is_refused(path: Path) -> None:
    path.mkdir()

    assert await refusal_of(path) == "cannot be opened for writing: Is a directory"


@pytest.mark.parametrize("mode", [0o400, 0o000])
async def test_a_file_that_may_not_be_written_is_refused(unprivileged: Path, mode: int) -> None:
    path = unprivileged / "journal.db"
    await closed_store(path)
    path.chmod(mode)

    with pytest.raises(ConfigError, match=r"journal\.db cannot be opened for writing: Permission denied$"):
        async with SqliteStore(path):
            pytest.fail("it was opened")


async def test_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs root, to mount a file system")
    try:
        assert await refusal_of(tmp_path / "journal.db") == "cannot be opened for writing: Read-only file system"
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


# --- several processes


async def test_two_processes_share_a_file_also_under_two_names(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.symlink_to(path)
    async with SqliteStore(path) as one, SqliteStore(other) as two:
        await one.append(beginning(), attempt=0)
        await two.append(ending(), attempt=1)

        assert await one.read("t") == await two.read("t")
        assert len(await one.read("t")) == 4


async def test_whoever_opens_waits_for_another_to_finish_opening_but_not_for_ever(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await closed_store(path)
    monkeypatch.setattr(adapter, "BUSY_S", 0.1)
    with Path(f"{path}.lock").open("rb") as lock:  # noqa: ASYNC230
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert await refusal_of(path) == "is being opened by another process that does not finish"
    await closed_store_again(path)


async def closed_store_again(path: Path) -> None:
    async with SqliteStore(path) as store:
        await store.check()


async def test_a_refused_start_lets_go_of_the_lock(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)
    await refusal_of(path)
    path.unlink()

    await closed_store(path)
