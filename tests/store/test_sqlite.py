"""What only a store on disk can show: that it outlives the process, and what it does when the disk will not."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_service.errors import InternalError, OverloadedError
from agent_service.store.base import Appended
from agent_service.store.sqlite import append_queue, batch
from agent_service.store.sqlite.adapter import LOG_BYTES_MAX, SqliteStore
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_event_pb2 import TaskEvent
from tests.contracts.stores import numbered
from tests.store.events import beginning, ending, event, unfinished

ROOT = Path(__file__).parents[2]

Trouble = Callable[[Path], AbstractContextManager[None]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@contextmanager
def appender(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that appends to the store until it is killed, at the latest when this ends."""
    command = [sys.executable, "-m", "tests.store.appender", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def write_lock(path: Path) -> Iterator[sqlite3.Connection]:
    """Keep the store's writer waiting inside its next commit."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


def commits_in_log(path: Path) -> int:
    """Counts the commit records in SQLite's write-ahead log (https://sqlite.org/fileformat2.html#the_wal_format)."""
    log = Path(f"{path}-wal").read_bytes()
    frame_bytes = 24 + int.from_bytes(log[8:12], "big")
    return sum(log[start + 4 : start + 8] != bytes(4) for start in range(32, len(log), frame_bytes))


# --- durability


async def test_journals_survive_closing_and_opening(path: Path) -> None:
    first, second = beginning(), ending()
    async with SqliteStore(path) as store:
        await store.append(first, attempt=0)
    async with SqliteStore(path) as store:
        assert await unfinished(store) == ["t"]
        await store.append(second, attempt=1)
    async with SqliteStore(path) as store:
        assert await store.read("t") == numbered(first + second)
        assert await unfinished(store) == []


async def test_closing_stores_what_was_queued_and_leaves_one_file_of_data(path: Path) -> None:
    async with SqliteStore(path) as store:
        appended = [asyncio.create_task(store.append(beginning(f"t{n}"), attempt=0)) for n in range(600)]
        await asyncio.sleep(0)

    await asyncio.gather(*appended)
    assert sorted(file.name for file in path.parent.iterdir()) == ["journal.db", "journal.db.lock"]
    async with SqliteStore(path) as store:
        assert len(await unfinished(store)) == 600


async def test_the_log_has_its_usual_size_again_once_a_long_reader_has_gone(path: Path) -> None:
    async with SqliteStore(path) as store:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM tasks").fetchall()
            await append_large(store, "meanwhile", 36)
            assert log_bytes(path) > LOG_BYTES_MAX
        await append_large(store, "after", 3)
        assert log_bytes(path) <= LOG_BYTES_MAX


def log_bytes(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


async def append_large(store: SqliteStore, name: str, mebibytes: int) -> None:
    for number in range(mebibytes):
        await store.append([event("submitted", f"{name}{number}", text="x" * 2**20)], attempt=0)


async def test_nothing_of_an_erased_task_is_left_in_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whether SQLite overwrites what is deleted is a choice of its build, where nobody makes it.
    connect = sqlite3.connect

    def of_another_build(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)
        connection.execute("PRAGMA secure_delete = OFF")
        return connection

    monkeypatch.setattr(sqlite3, "connect", of_another_build)
    async with SqliteStore(path) as store:
        for number in range(40):
            secret = event("model_replied", f"t{number}", attempt=1, text=f"a secret of t{number} " * 400)
            end = event("completed", f"t{number}", attempt=1)
            await store.append([*beginning(f"t{number}"), secret, end], attempt=0)
        assert await asyncio.gather(*(store.erase(f"t{number}") for number in range(40)))
    assert not holds(path, b"a secret of")


def holds(path: Path, text: bytes) -> bool:
    return text in path.read_bytes()


async def test_a_killed_process_loses_nothing_that_was_acknowledged(path: Path) -> None:
    acknowledged: dict[str, int] = {}
    for lines_before_kill in (1, 100, 500):
        with appender(path) as process:
            assert process.stdout is not None
            told = [process.stdout.readline() for _ in range(lines_before_kill)]
            process.kill()
            told += process.stdout.readlines()
        for line in told:
            task_id, told_sequence = line.split()
            acknowledged[task_id] = int(told_sequence)

    assert len(acknowledged) > 100
    whole = len(beginning()) + len(ending())
    async with SqliteStore(path) as store:
        cut_off = set()
        for task_id, sequence in acknowledged.items():
            stored = await store.read(task_id)
            assert len(stored) >= sequence
            assert stored == numbered([*beginning(task_id), *ending(task_id)])[: len(stored)]
            if len(stored) < whole:
                cut_off.add(task_id)
        left = await unfinished(store)
        assert cut_off <= set(left)
        await asyncio.gather(*(store.append(ending(task_id), attempt=1) for task_id in left))
        assert await unfinished(store) == []


async def test_every_commit_is_synced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as that can be told without cutting the power: by asking the connections."""
    connections: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def remember(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connections.append(connect(*args, **kwargs))
        return connections[-1]

    monkeypatch.setattr(sqlite3, "connect", remember)
    async with SqliteStore(path):
        writing = connections[1]
        assert writing.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert writing.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert writing.execute("PRAGMA query_only").fetchone() == (0,)


async def test_a_row_says_where_its_task_stands_and_events_are_kept_without_their_sequence(path: Path) -> None:
    events = beginning()
    events[0].submitted.submitted_by = "ci"
    events[1].sequence = 77
    late = event("model_started", attempt=1)
    late.model_started.model = "smart"
    late.create_time.seconds += 60
    async with SqliteStore(path) as store:
        await store.append(events, attempt=0)
        await store.append([late], attempt=1)

    with closing(sqlite3.connect(path)) as connection:
        (row,) = connection.execute("SELECT * FROM tasks").fetchall()
        payloads = [payload for (payload,) in connection.execute("SELECT payload FROM events ORDER BY sequence")]
    accepted_us = 1_700_000_000_123_456
    whose = (1, "t", "acme", 1, "assistant", "", "", accepted_us)
    assert row == (*whose, 2, 1, 3, "", 0, accepted_us + 60_000_000, "smart", "ci", 2)
    assert [TaskEvent.FromString(payload).sequence for payload in payloads] == [0, 0, 0]


# --- group commit


async def test_appends_that_wait_share_a_commit(path: Path) -> None:
    async with SqliteStore(path) as store:
        before = commits_in_log(path)
        with write_lock(path):
            appended = [store.append(beginning(f"t{n}"), attempt=0) for n in range(200)]
        await asyncio.gather(*appended)

        # The first may have been on its way alone when the others came.
        assert commits_in_log(path) - before <= 2


async def test_a_commit_takes_a_bounded_number_of_appends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append_queue, "APPENDS_PER_COMMIT_MAX", 10)
    async with SqliteStore(path) as store:
        before = commits_in_log(path)
        with write_lock(path):
            appended = [store.append(beginning(f"t{n}"), attempt=0) for n in range(200)]
        await asyncio.gather(*appended)

        assert 20 <= commits_in_log(path) - before <= 21


async def test_more_appends_than_the_queue_holds_are_turned_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append_queue, "APPENDS_QUEUED_MAX", 5)
    async with SqliteStore(path) as store:
        with write_lock(path):
            appended = [store.append(beginning(f"t{n:02}"), attempt=0) for n in range(50)]
        results = await asyncio.gather(*appended, return_exceptions=True)

        turned_away = [result for result in results if isinstance(result, Exception)]
        assert turned_away
        assert {type(result) for result in turned_away} == {OverloadedError}
        assert await unfinished(store) == [
            f"t{n:02}" for n, result in enumerate(results) if isinstance(result, Appended)
        ]


async def test_reads_do_not_wait_for_the_writer(path: Path) -> None:
    async with SqliteStore(path) as store:
        await store.append(beginning(), attempt=0)
        with write_lock(path):
            appended = asyncio.ensure_future(store.append(ending(), attempt=1))
            assert len(await store.read("t")) == 2
            assert await unfinished(store) == ["t"]
            assert not appended.done()
        await appended


# --- when the medium says no


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Fill the file system to the last byte."""
    filler = path.with_name("filler")
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def failing_writes(path: Path) -> Iterator[None]:
    """Let no file of this process grow beyond what the log has now: writing it fails with an I/O error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{path}-wal").stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs root, to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)  # -l: also when a test failed with its files open


async def assert_store_fails_and_recovers(path: Path, trouble: Trouble, log: pytest.LogCaptureFixture) -> None:
    async with SqliteStore(path) as store:
        await store.append(beginning(), attempt=0)
        refused = [[event("model_replied", attempt=1, text="x" * 9000)] for _ in range(5)]
        with trouble(path):
            for _ in range(2):
                calls = [store.append(events, attempt=1) for events in refused]
                results = await asyncio.gather(*calls, return_exceptions=True)
                assert [type(result) for result in results] == [OverloadedError] * 5
                assert {result.reason for result in results if isinstance(result, OverloadedError)} == {
                    reasons.ERROR_REASON_STORE_UNAVAILABLE
                }
            with pytest.raises(OverloadedError):
                await store.check()
            assert len(await store.read("t")) == 2

        await store.check()
        for events in refused:
            await store.append(events, attempt=1)
        assert [each.sequence for each in await store.read("t")] == list(range(1, 8))
    told = [record.getMessage().split()[0] for record in log.records]
    assert told == ["store_unavailable", "store_available"]
    async with SqliteStore(path) as store:
        assert [each.sequence for each in await store.read("t")] == list(range(1, 8))


async def test_a_full_disk_fails_appends_and_they_work_again_when_there_is_room(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await assert_store_fails_and_recovers(small_disk / "journal.db", full_disk, caplog)
    assert [vars(record).get("sqlite") for record in caplog.records] == ["SQLITE_FULL", None]


async def test_an_io_error_fails_appends_and_they_work_again_when_it_has_passed(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await assert_store_fails_and_recovers(path, failing_writes, caplog)
    assert str(vars(caplog.records[0])["sqlite"]).startswith("SQLITE_IOERR")


async def test_a_commit_that_fails_half_way_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SqliteStore(path) as store:
        with monkeypatch.context() as patched:
            patched.setattr(batch, "ADD_EVENTS", "INSERT INTO nowhere VALUES {rows}")
            with pytest.raises(OverloadedError):
                await store.append(beginning(), attempt=0)
        assert await unfinished(store) == []

        await store.append(beginning(), attempt=0)

        assert len(await store.read("t")) == 2


async def test_a_fault_of_ours_is_told_as_one_and_the_writer_lives_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqliteStore(path) as store:
        with monkeypatch.context() as patched:
            patched.setattr(batch, "admit", lambda view, append: 1 / 0)
            with pytest.raises(InternalError):
                await store.append(beginning(), attempt=0)

        await store.append(beginning(), attempt=0)


async def test_a_closed_store_is_unavailable(path: Path) -> None:
    store = SqliteStore(path)
    async with store:
        pass

    calls = (
        store.append(beginning(), attempt=0),
        store.read("t"),
        store.orphans("me", begun=True),
        store.heartbeat("me"),
        store.check(),
    )
    for call in calls:
        with pytest.raises(OverloadedError):
            await call
