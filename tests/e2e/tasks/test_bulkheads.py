"""What one tenant's costly calls cost another: a server, the heavy callers and the measured one are three processes."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent_service.client import AsyncClient
from agent_service.keys.base import Scope
from agent_service.keys.secret import generate, hash_text, public_id_of
from agent_service.store.sqlite.adapter import SqliteStore
from tests.e2e.heavy_callers import HeavyCallers, heavy_callers
from tests.e2e.processes import server_process
from tests.store import events

# What acme has, and how many callers of it go on and on; what is measured is globex.
TASKS, LONG_EVENTS, CALLERS = 5_000, 5_000, 30
PROBES = 30
BEGINNING = 3
# Other work on the machine spoils single measurements: there are more rounds, alone and beside in turn, until that
# evens out. Where the machine was busy all the while it is done again: what a tenant costs it costs each time.
ROUNDS = 12
REPEATED = 3
CONFIG = """
agents:
  assistant: {model: default, tools: [fetch, hello]}
tools:
  modules: [slow_tools]
"""
TOOLS = '''
import threading

from agent_service.tools.decorator import tool


@tool(side_effect="read_only", timeout_s=0.5)
def fetch() -> str:
    """A library call without a timeout, to a host that does not answer."""
    threading.Event().wait()
    return ""


@tool(side_effect="read_only")
def hello() -> str:
    """Greets."""
    return "hello"
'''

Took = dict[str, list[float]]
Slower = dict[str, tuple[float, float]]


@dataclass
class Served:
    """A server, and the keys of two of its tenants."""

    target: str
    acme: str
    globex: str


@pytest.fixture(scope="module")
def full_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("full") / "journal.db"
    asyncio.run(fill(path))
    return path


async def fill(path: Path) -> None:
    async with SqliteStore(path) as store:
        for tenant, count in (("acme", TASKS), ("globex", PROBES)):
            for start in range(0, count, 1000):
                ids = [f"{tenant}{number}" for number in range(start, min(start + 1000, count))]
                ended = [
                    [events.submitted(each, tenant=tenant), events.started(each), *events.ending(each)] for each in ids
                ]
                await asyncio.gather(*(store.append(journal, attempt=0) for journal in ended))
        steps = [events.event("model_replied", "long", attempt=1, text="x" * 200) for _ in range(LONG_EVENTS)]
        journal = [events.submitted("long"), events.started("long"), *steps, events.waits("long", until_s=1e9)]
        await store.append(journal, attempt=0)


@pytest.fixture
async def served(full_store: Path, tmp_path: Path) -> AsyncIterator[Served]:
    (tmp_path / "test.db").write_bytes(full_store.read_bytes())  # noqa: ASYNC240 - before anything runs
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "slow_tools.py").write_text(TOOLS)
    acme, globex = (generate(public_id_of(name)) for name in ("acme", "globex"))
    scopes = [str(scope) for scope in Scope if scope is not Scope.ADMIN]
    keys = [
        {"id": name, "hash": hash_text(key), "tenant": name, "scopes": scopes, "agents": ["*"], "tools": ["*"]}
        for name, key in (("acme", acme), ("globex", globex))
    ]
    (tmp_path / "keys.yaml").write_text(json.dumps({"keys": keys}))
    settings = {
        "API_KEY": "",
        "API_KEYS_FILE": "keys.yaml",
        "AGENT_SERVICE_CONFIG_PATH": "config.yaml",
        "AGENT_SERVICE_ENV": "production",
        "RATE_LIMIT_CALLS": "1000000000",
        "RATE_LIMIT_TOKENS": "1000000000000",
        "TASK_RETENTION_DAYS": "3650",
        "TOOL_THREADS_MAX": "8",
    }
    async with server_process(tmp_path, **settings) as server:
        yield Served(server.target, acme, globex)


async def measured(client: AsyncClient, probes: int = PROBES) -> Took:
    """How long a tenant's calls take, one after the other."""
    took: Took = {}
    calls: dict[str, Callable[[int], Awaitable[object]]] = {
        "get": lambda number: client.get_task(f"globex{number}"),
        "list": lambda _: client.list_tasks(page_size=20),
        "tool": lambda _: client.invoke_tool("hello", {}),
        "run": lambda _: client.run("go"),
    }
    for number, (name, call) in itertools.product(range(probes), calls.items()):
        began = time.perf_counter()
        await call(number)
        took.setdefault(name, []).append(time.perf_counter() - began)
    return took


def p99(took: list[float]) -> float:
    return sorted(took)[len(took) * 99 // 100]


@pytest.mark.alone
@pytest.mark.timeout(300)
@pytest.mark.parametrize("of", ["lists", "stuck tools", "long journals", "erasures"])
async def test_what_one_tenant_does_makes_another_wait_less_than_twice_as_long(of: str, served: Served) -> None:
    callers, pause_s = (4, 1.0) if of == "stuck tools" else (CALLERS, 0.0)
    slower: Slower = {}
    async with (
        AsyncClient(served.target, api_key=served.globex) as globex,
        heavy_callers(served.target, served.acme, of, callers, pause_s) as heavy,
    ):
        await measured(globex)
        for _ in range(REPEATED):
            slower = await compared(globex, heavy)
            if not slower:
                break
    assert not slower


async def compared(globex: AsyncClient, heavy: HeavyCallers) -> Slower:
    """What takes twice as long or longer, at the 99th percentile: alone, and beside the others."""
    alone: Took = {}
    beside: Took = {}
    slower: Slower = {}
    for _ in range(ROUNDS):
        add(alone, await measured(globex))
        async with heavy.calling():
            # All of them begin at once, which is a flood of calls and no matter of this test.
            await measured(globex, BEGINNING)
            add(beside, await measured(globex))
        both = {name: (p99(alone[name]), p99(beside[name])) for name in alone}
        slower = {name: (a, b) for name, (a, b) in both.items() if b >= 2 * a}
        if not slower:
            break
    return slower


def add(all_of_them: Took, took: Took) -> None:
    for name, some in took.items():
        all_of_them.setdefault(name, []).extend(some)
