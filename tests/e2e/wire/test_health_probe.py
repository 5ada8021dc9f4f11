"""`grpc-health-probe`, as orchestrators run it, under every name in every phase of a server's life."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent_service.server.app import Listening
from tests.fakes.authority import authority
from tests.fakes.store import FakeStore
from tests.harness import Parts, started
from tests.plugins.toolchain import find
from tests.service.worlds import until

pytestmark = pytest.mark.needs("grpc-health-probe")

NAMES = ("startup", "liveness", "readiness", "", "agent_service.v1.AgentService", "nobody")
# What it exits with: the name is served, there is no server, the call was refused (no such name), it is not served.
OK, UNREACHED, REFUSED, NOT_SERVING = 0, 2, 3, 4

STARTING = [NOT_SERVING, OK, NOT_SERVING, NOT_SERVING, NOT_SERVING, REFUSED]
READY = [OK, OK, OK, OK, OK, REFUSED]
UNREADY = [OK, OK, NOT_SERVING, NOT_SERVING, NOT_SERVING, REFUSED]
GONE = [UNREACHED] * 6


async def probe(target: str, *flags: str) -> list[int]:
    """What it exits with under each name."""

    async def exit_code(name: str) -> int:
        patience = ("-connect-timeout", "10s", "-rpc-timeout", "10s") if "-quick" not in flags else ()
        given = [flag for flag in flags if flag != "-quick"]
        process = await asyncio.create_subprocess_exec(
            find("grpc-health-probe") or "grpc-health-probe",
            *("-addr", target, "-service", name, *patience, *given),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        return await process.wait()

    return list(await asyncio.gather(*map(exit_code, NAMES)))


@pytest.mark.parametrize("is_protected", [False, True])
async def test_every_name_in_every_phase(tmp_path: Path, is_protected: bool) -> None:
    tls: Sequence[str] = ()
    store, seen = FakeStore(), {}
    parts = Parts(store=store, drain_delay_s=3600.0)
    if is_protected:
        shown = authority().certificates()
        parts.certificates, parts.tls = lambda: shown, authority().client(tmp_path)
        tls = ("-tls", "-tls-ca-cert", str(tmp_path / "ca.pem"))

    async def look(listening: Listening) -> None:
        seen["starting"] = await probe(f"127.0.0.1:{listening.health_port}")
        seen["starting, where calls go"] = await probe(f"127.0.0.1:{listening.port}", *tls, "-quick")

    parts.starting = look
    async with started(parts) as running:

        async def both() -> list[int]:
            at_main_port, at_health_port = await probe(running.target, *tls), await probe(running.health_target)
            assert at_main_port == at_health_port
            return at_main_port

        seen["ready"] = await both()
        store.is_down = True
        await running.server.readiness.check()
        seen["store down"] = await both()
        store.is_down = False
        await running.server.readiness.check()
        seen["store back"] = await both()
        drain = asyncio.create_task(running.server.drain())
        await until(lambda: any(line["event"] == "draining" for line in running.log))
        seen["draining"] = await both()
        drain.cancel()
        await asyncio.wait((drain,))
        await running.server.stop()
        seen["stopped"] = await probe(running.target, *tls, "-quick")
        assert seen["stopped"] == await probe(running.health_target, "-quick")
    assert seen == {
        "starting": STARTING,
        "starting, where calls go": GONE,
        "ready": READY,
        "store down": UNREADY,
        "store back": READY,
        "draining": UNREADY,
        "stopped": GONE,
    }


async def test_where_clients_must_show_a_certificate_the_probe_does_too_or_asks_the_port_for_health(
    tmp_path: Path,
) -> None:
    shown = authority().certificates(asks_clients=True)
    tls = authority().client(tmp_path, "spiffe://prod/probe")
    async with started(Parts(certificates=lambda: shown, tls=tls)) as running:
        ca = ("-tls", "-tls-ca-cert", str(tls.ca_file))
        own = ("-tls-client-cert", str(tls.cert_file), "-tls-client-key", str(tls.key_file))
        assert await probe(running.target, *ca, *own) == READY
        assert await probe(running.target, *ca, "-quick") == GONE
        assert await probe(running.health_target) == READY
