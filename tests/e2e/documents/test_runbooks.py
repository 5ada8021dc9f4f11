"""Each incident of docs/runbooks.md, played on a started server with the page's own commands, in the page's order."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent_service.client import CallError, Client, Tls
from agent_service.keys.base import Scope
from agent_service.keys.secret import generate, hash_text, public_id_of
from agent_service.v1.task_pb2 import TASK_STATE_CANCELED, Task
from tests.e2e.processes import environment
from tests.fakes.authority import DAY, LOOPBACK, authority
from tests.fakes.ports import free_port

PAGE = (Path(__file__).parents[3] / "docs" / "runbooks.md").read_text("utf-8")
PARTS = ("What you see", "Look", "Why", "Do", "It is over when")
BLOCK = re.compile(r"```sh\n(?P<commands>.*?)```(?:\n\nprints (?P<told>`.*?)\.\n)?", re.DOTALL)

pytestmark = [pytest.mark.needs("curl"), pytest.mark.timeout(240)]

CONFIG = """
models:
  smart: {provider: openai, model_id: any, base_url: "http://127.0.0.1:9/v1", retry: {attempts: 1}}
  spare: {provider: scripted, script: script.yaml}
agents:
  assistant: {model: smart, default: true}
  limited: {model: spare}
  slow: {model: spare, tools: [wait_long], timeout_s: 3600}
tools: {modules: [slow_tools]}
rate_limits:
  - {name: few-calls, match: {agent: limited}, max_calls: 1, window_seconds: 3600}
budgets:
  - {name: monthly, max_tokens: 1000000}
"""
SCRIPT = """
- match: wait
  turns: [{tool_calls: [{name: wait_long}]}, {text: done}]
- match: .*
  turns: [{text: It is 42.}]
"""
TOOLS = '''
import asyncio

from agent_service.tools.decorator import tool


@tool(side_effect="read_only", timeout_s=3600)
async def wait_long() -> str:
    """Waits for something that does not come."""
    await asyncio.sleep(3600)
    return ""
'''


def incidents() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def blocks(text: str) -> list[tuple[str, list[str]]]:
    """The commands, and what they print."""
    return [(match["commands"], re.findall(r"`([^`]+)`", match["told"] or "")) for match in BLOCK.finditer(text)]


class Shell:
    """One shell, as an operator has it open."""

    def __init__(self, directory: Path, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--norc"],
            cwd=directory,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, commands: str) -> str:
        """What they print."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{commands}\necho '(the end)'\n")
        self._process.stdin.flush()
        return "".join(iter(self._process.stdout.readline, "(the end)\n"))

    def close(self) -> None:
        self._process.communicate()


@dataclass
class World:
    """A server with a store on a small disk, TLS, and keys of an operator and of a tenant's callers."""

    directory: Path
    secrets: dict[str, str] = field(
        default_factory=lambda: {name: generate(public_id_of(name)) for name in ("operator", "ci", "app")}
    )
    port: int = field(default_factory=free_port)

    @property
    def store(self) -> Path:
        return self.directory / "store"

    @property
    def log(self) -> str:
        return (self.directory / "agent-service.log").read_text("utf-8")

    def write(self) -> None:
        for name, text in (("config.yaml", CONFIG), ("script.yaml", SCRIPT), ("slow_tools.py", TOOLS)):
            (self.directory / name).write_text(text)
        scopes = {"operator": list(Scope)}
        entries = "".join(
            f"  - id: {name}\n    hash: {hash_text(secret)}\n    tenant: {'ops' if name == 'operator' else 'acme'}\n"
            f"    scopes: {json.dumps(scopes.get(name, ['tasks.run', 'tasks.read', 'tasks.cancel']))}\n"
            "    agents: ['*']\n"
            for name, secret in self.secrets.items()
        )
        (self.directory / "keys.yaml").write_text(f"keys:\n{entries}")
        authority().write(self.directory)
        _, key = authority().issue(*LOOPBACK, ends=DAY).write(self.directory, "server")
        key.chmod(0o600)

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        certificate, key = (str(self.directory / name) for name in ("server.pem", "server.key"))
        return environment(
            PATH=path,
            API_HOST="127.0.0.1",
            API_PORT=str(self.port),
            HEALTH_PORT=str(free_port()),
            METRICS_PORT=str(free_port()),
            API_KEY=self.secrets["operator"],
            API_KEYS_FILE="keys.yaml",
            OPENAI_API_KEY="sk-for-a-provider-that-is-not-there",
            DATABASE_URL="sqlite:///store/agent_service.db",
            DRAIN_GRACE="600",
            TLS_CERT_FILE=certificate,
            TLS_KEY_FILE=key,
            AGENT_SERVICE_CA_FILE=str(self.directory / "ca.pem"),
        )

    @contextmanager
    def client(self, name: str, secret: str = "") -> Iterator[Client]:
        tls = Tls(ca_file=str(self.directory / "ca.pem"))
        target = f"localhost:{self.port}"
        with Client(target, api_key=secret or self.secrets[name], tls=tls) as client:
            yield client

    def submit_stuck(self, client: Client) -> Task:
        """A task that has begun to wait in its tool."""
        task = client.submit("wait", agent="slow")
        for event in client.watch(task.id):
            if event.HasField("tool_started"):
                break
        return task

    def until_logged(self, event: str) -> None:
        until(lambda: f'"event":"{event}"' in self.log)


def until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.05)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Shell]]:
    world = World(tmp_path_factory.mktemp("runbooks"))
    world.write()
    world.store.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", world.store],
        capture_output=True,
        check=False,
    )
    shell = Shell(world.directory, world.environment())
    ((prelude, _),) = blocks(PAGE.partition("\n## ")[0])
    try:
        shell.run(f"{prelude}\nstart")
        with world.client("app") as client:
            client.run("What is 6 * 7?", agent="slow")
        yield world, shell
    finally:
        shell.run('kill -9 "$(cat agent-service.pid)"; wait')
        shell.close()
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", world.store], check=True)


# Each prepares the incident before the first block, and what must have happened before each other one.
Play = Callable[[World], Generator[None]]


def key_leaked(world: World) -> Generator[None]:
    with world.client("ci") as client:
        task = world.submit_stuck(client)
        yield  # look
        yield  # revoke
        until(lambda: refused(client))
        yield  # cancel
        with world.client("app") as other:
            assert other.get_task(task.id).state == TASK_STATE_CANCELED
        yield  # a new key
        with world.client("", (world.directory / "ci-2.secret").read_text().strip()) as renewed:
            until(lambda: not refused(renewed))


def refused(client: Client) -> bool:
    try:
        client.list_tasks(page_size=1)
    except CallError as error:
        return error.reason == "API_KEY_INVALID"
    return False


def disk_full(world: World) -> Generator[None]:
    if not world.store.is_mount():
        pytest.skip("needs root, to mount a file system")
    ballast = world.store / "ballast"
    try:
        fill(ballast)
        world.until_logged("readiness_failing")
        yield  # look
        yield  # what takes room
    finally:
        ballast.unlink()
    yield  # go on


def fill(ballast: Path) -> None:
    """Leave not one byte of the disk."""
    with ballast.open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    """There was room."""
            except OSError:
                continue


def provider_down(world: World) -> Generator[None]:
    with world.client("app") as client:
        assert client.run("What is 6 * 7?", agent="assistant").failure.message
    yield


def limit_reached(world: World) -> Generator[None]:
    with world.client("operator") as client:
        client.run("What is 6 * 7?", agent="limited")
        with pytest.raises(CallError, match="RATE_LIMITED_CALLS"):
            client.run("What is 6 * 7?", agent="limited", deadline_s=5)
    yield


def stuck_task(world: World) -> Generator[None]:
    with world.client("app") as client:
        world.submit_stuck(client)
    yield


def stuck_drain(world: World) -> Generator[None]:
    with world.client("app") as client:
        task = world.submit_stuck(client)
    os.kill(int((world.directory / "agent-service.pid").read_text()), signal.SIGTERM)
    world.until_logged("draining")
    yield  # look
    yield  # end it
    yield  # the next process
    with world.client("app") as client:
        client.cancel(task.id)


def clock_wrong(world: World) -> Generator[None]:
    with closing(sqlite3.connect(world.store / "agent_service.db", isolation_level=None)) as store:
        ((at,),) = store.execute("SELECT update_time FROM tasks WHERE task_key = 1").fetchall()
        moved = "UPDATE tasks SET update_time = ? WHERE task_key = 1"
        store.execute(moved, (int((time.time() + 3600) * 1e6),))
        yield
        store.execute(moved, (at,))


def certificate_ends(world: World) -> Generator[None]:
    certificate, _ = authority().issue(*LOOPBACK, ends=60 * DAY).write(world.directory, "new")
    shutil.move(certificate, world.directory / "new.crt")
    yield


def upgrade(world: World) -> Generator[None]:
    yield  # look
    yield  # upgrade
    with closing(sqlite3.connect(world.store / "agent_service.db")) as store:
        store.execute("PRAGMA user_version = 99")
    yield  # roll back


def nothing(_: World) -> Generator[None]:
    yield


PLAYS: dict[str, Play] = {
    "Key leaked": key_leaked,
    "Disk full": disk_full,
    "Provider down": provider_down,
    "Limit reached": limit_reached,
    "Stuck task": stuck_task,
    "Stuck drain": stuck_drain,
    "Clock wrong": clock_wrong,
    "Certificate ends": certificate_ends,
    "Restore from a backup": nothing,
    "Upgrade and roll back": upgrade,
}


def test_every_incident_has_the_same_parts() -> None:
    assert list(incidents()) == list(PLAYS)
    for title, text in incidents().items():
        leads = re.findall(r"^\*\*(.+?)\.?\*\*", text, re.MULTILINE)
        assert leads == list(PARTS), title


@pytest.mark.parametrize("title", PLAYS)
def test_an_incident_is_found_and_ended_by_the_page_alone(title: str, played: tuple[World, Shell]) -> None:
    world, shell = played
    with closing(PLAYS[title](world)) as play:
        for commands, told in blocks(incidents()[title]):
            next(play, None)
            printed = shell.run(commands)
            assert [each for each in told if each not in printed] == [], f"{commands}\n{printed}"
        assert list(play) == [], "what was prepared was needed"
