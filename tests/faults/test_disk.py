"""A disk that is full, a store that may not be written, and what becomes of tasks meanwhile."""

# Nothing else runs in these loops, so blocking them holds up nobody.
# ruff: noqa: ASYNC221

from __future__ import annotations

import asyncio
import resource
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent_service.client import AsyncClient, CallError
from agent_service.engine.task.state import FoldedTask
from agent_service.store.base import TaskQuery
from agent_service.store.sqlite.adapter import SqliteStore
from agent_service.v1.error_reason_pb2 import ERROR_REASON_DEADLINE_EXCEEDED
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_FAILED, TASK_STATE_WORKING
from tests.e2e.processes import KEY, ServerProcess, command, environment, server_process
from tests.faults.killing import WORLD, begun_calls

CONFIG = """
models:
  default: {provider: scripted, script: script.yaml}
agents:
  assistant: {model: default, tools: [pay]}
tools:
  modules: [kill_tools]
"""
SCRIPT = """
- match: pay
  turns:
    - {tool_calls: [{name: pay, arguments: {}}], delay_s: 1}
    - {text: paid}
- match: late
  turns:
    - {text: too late, delay_s: 10}
- match: .*
  turns:
    - {text: done, delay_s: 0.1}
"""


@dataclass(frozen=True)
class Disk:
    """A small file system with the store on it; what the tools do to the world is elsewhere."""

    directory: Path
    mount: Path

    @property
    def database(self) -> Path:
        return self.mount / "test.db"

    def fill(self) -> None:
        """Leave not one byte."""
        with (self.mount / "ballast").open("ab", buffering=0) as ballast:
            for size in (65536, 4096, 1):
                try:
                    while ballast.write(bytes(size)) == size:
                        """There was room."""
                except OSError:
                    continue

    def free(self) -> None:
        (self.mount / "ballast").unlink()

    def settings(self) -> dict[str, str]:
        return {
            "DATABASE_URL": f"sqlite:///{self.database}",
            "DRAIN_GRACE": "0.1",
            "LLM_PROVIDER": "",
            "PYTHONPATH": str(self.directory),
            "RATE_LIMIT_CALLS": "1000000",
            "RATE_LIMIT_TOKENS": "1000000000",
        }

    @asynccontextmanager
    async def server(self) -> AsyncIterator[ServerProcess]:
        async with server_process(self.directory, **self.settings()) as running:
            yield running

    async def journals(self) -> list[list[TaskEvent]]:
        """All that is stored, each without a gap and foldable."""
        found = []
        async with SqliteStore(self.database) as store:
            for row in (await store.list_tasks(TaskQuery(limit=100_000))).rows:
                journal = await store.read(row.task_id)
                assert [event.sequence for event in journal] == list(range(1, len(journal) + 1))
                FoldedTask.fold(journal)
                found.append(journal)
        return found


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path, tmp_path / "disk")
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "script.yaml").write_text(SCRIPT)
    (tmp_path / "kill_tools.py").write_text((WORLD / "kill_tools.py").read_text())
    made.mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", made.mount], capture_output=True).returncode:
        pytest.skip("needs root, to mount a file system")
    try:
        yield made
    finally:
        subprocess.run(["umount", "-l", made.mount], check=True)


def client(server: ServerProcess) -> AsyncClient:
    return AsyncClient(server.target, api_key=KEY, patience_s=0)


async def refused(*calls: Awaitable[object]) -> None:
    for call in calls:
        with pytest.raises(CallError) as error:
            async with asyncio.timeout(20):
                await call
        assert (error.value.code, error.value.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
        assert error.value.retry_after_s is not None


async def last(events: AsyncIterator[TaskEvent]) -> TaskEvent:
    return [event async for event in events][-1]


async def working(ours: AsyncClient, task_ids: Sequence[str]) -> None:
    """Wait until their models are asked."""
    for task_id in task_ids:
        async for event in ours.watch(task_id):
            if event.HasField("model_started"):
                break


async def unready(server: ServerProcess, ours: AsyncClient) -> None:
    async with asyncio.timeout(30):
        told = await server.logged("readiness_failing")
    assert told["check"] == "store"
    assert told["cause"].startswith("STORE_UNAVAILABLE")
    assert await ours.health("readiness") == "NOT_SERVING"
    assert await ours.health("liveness") == "SERVING"
    assert 'agent_service_ready{check="store"} 0.0' in await server.metrics()


async def test_on_a_full_disk_new_work_is_refused_what_runs_waits_and_all_goes_on_with_room(disk: Disk) -> None:
    async with disk.server() as server, client(server) as ours:
        paying = await ours.submit("pay")
        late = await ours.submit("late", timeout_s=2)
        doomed = await ours.submit("late")
        await working(ours, [paying.id, late.id, doomed.id])
        disk.fill()
        await refused(ours.run("a"), last(ours.stream("b")), ours.submit("c"), ours.invoke_tool("pay"))
        await unready(server, ours)
        # What was stored can be read; what could not be stored has not happened: no tool ran.
        assert (await ours.get_task(paying.id)).state == TASK_STATE_WORKING
        assert not begun_calls(disk.directory)
        assert (await ours.cancel(doomed.id)).state == TASK_STATE_WORKING
        disk.free()
        async with asyncio.timeout(30):
            assert (await last(ours.watch(doomed.id))).HasField("canceled")
            assert (await last(ours.watch(paying.id))).completed.output == "paid"
            assert (await last(ours.watch(late.id))).failed.failure.reason == ERROR_REASON_DEADLINE_EXCEEDED
            await server.logged("readiness_recovered")
        assert await ours.health("readiness") == "SERVING"
        assert (await ours.run("more")).state == TASK_STATE_COMPLETED
    assert list(begun_calls(disk.directory).values()) == [1]
    assert len(await disk.journals()) == 4


async def test_what_was_acknowledged_while_the_disk_ran_full_survives_a_kill(disk: Disk) -> None:
    acknowledged: set[str] = set()

    async def submit(ours: AsyncClient, number: int) -> None:
        with pytest.raises(CallError, match="STORE_UNAVAILABLE"):  # noqa: PT012 - which of them is not known
            for n in range(10_000):
                acknowledged.add((await ours.submit("go", request_id=f"{number}-{n}", timeout_s=600)).id)

    async with disk.server() as server, client(server) as ours:
        await asyncio.gather(*(submit(ours, number) for number in range(8)))
        await unready(server, ours)
        server.process.kill()
        await server.process.wait()
    assert acknowledged
    subprocess.run(["mount", "-o", "remount,size=64m", disk.mount], check=True)
    async with disk.server() as server, client(server) as ours:
        async with asyncio.timeout(60):
            for task_id in acknowledged:
                assert (await last(ours.watch(task_id))).HasField("completed")
    journals = await disk.journals()
    assert acknowledged <= {journal[0].task_id for journal in journals}
    assert all(journal[-1].HasField("completed") for journal in journals)


async def test_a_server_whose_disk_is_full_still_stops_when_told_and_its_tasks_go_on_later(disk: Disk) -> None:
    async with disk.server() as server, client(server) as ours:
        task = await ours.submit("pay")
        await working(ours, [task.id])
        disk.fill()
        await unready(server, ours)
        server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await server.process.wait() == 0
    disk.free()
    async with disk.server() as server, client(server) as ours:
        async with asyncio.timeout(30):
            assert (await last(ours.watch(task.id))).completed.output == "paid"
    assert list(begun_calls(disk.directory).values()) == [1]


async def test_a_start_on_a_full_disk_is_refused_in_one_line(disk: Disk) -> None:
    async with disk.server() as server, client(server) as ours:
        await ours.run("go")
    disk.fill()
    code, _, told = await command("serve", cwd=disk.directory, env=environment(API_KEY=KEY, **disk.settings()))
    assert (code, told.count("\n")) == (2, 1), told
    assert str(disk.database) in told


async def test_a_start_on_a_read_only_store_is_refused_in_one_line_and_nothing_is_touched(disk: Disk) -> None:
    async with disk.server() as server, client(server) as ours:
        await ours.run("go")
    before = {path.name: path.read_bytes() for path in disk.mount.iterdir() if path.is_file()}
    subprocess.run(["mount", "-o", "remount,ro", disk.mount], check=True)
    code, _, told = await command("serve", cwd=disk.directory, env=environment(API_KEY=KEY, **disk.settings()))
    assert (code, told) == (2, "environment DATABASE_URL: the file cannot be written by this user\n")
    assert {path.name: path.read_bytes() for path in disk.mount.iterdir() if path.is_file()} == before


async def test_a_file_that_may_not_grow_any_more_is_as_a_full_disk(tmp_path: Path) -> None:
    """As where a quota is used up, or the system makes a broken disk read-only under a running server."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "script.yaml").write_text(SCRIPT)
    (tmp_path / "kill_tools.py").write_text((WORLD / "kill_tools.py").read_text())
    disk = Disk(tmp_path, tmp_path)
    async with disk.server() as server, client(server) as ours:
        task = await ours.submit("pay")
        await working(ours, [task.id])
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        await unready(server, ours)
        await refused(ours.submit("a"))
        assert not begun_calls(tmp_path)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        async with asyncio.timeout(30):
            assert (await last(ours.watch(task.id))).completed.output == "paid"
    assert {journal[-1].WhichOneof("event") for journal in await disk.journals()} == {"completed"}
    assert TASK_STATE_FAILED not in {FoldedTask.fold(journal).task.state for journal in await disk.journals()}


async def test_a_full_disk_without_a_server_is_told_as_one_and_never_as_a_damaged_store(disk: Disk) -> None:
    async with disk.server() as server, client(server) as ours:
        await ours.run("a")
    disk.fill()
    free = {"API_HOST": "127.0.0.1", "API_PORT": "0", "METRICS_PORT": "0", "API_KEY": KEY}
    env = environment(**(disk.settings() | free))
    code, out, _ = await command("doctor", cwd=disk.directory, env=env)
    assert code == 1
    assert f"the disk of {disk.mount} is full: 0 KiB left, and new work is refused" in out
    assert "restore a backup" not in out
