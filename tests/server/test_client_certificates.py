"""Clients that prove who they are by a certificate, beside keys or without any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent_service.client import AsyncClient, CallError, Tls
from agent_service.keys.file import parse_keys
from agent_service.keys.ring import KeyRing, default_key
from tests.fakes.authority import Authority, authority
from tests.harness import KEY, Parts, Running, started

WORKER = "spiffe://prod/ns/agents/sa/worker"
KEYS = f"""
keys:
- {{id: worker, identity: '{WORKER}', tenant: acme, scopes: [tasks.run], agents: ['*']}}
- {{id: agents, identity: 'spiffe://prod/ns/agents/*', tenant: globex, scopes: [tasks.run, tasks.read], agents: ['*']}}
- {{id: gone, identity: 'spiffe://prod/ns/agents/sa/gone', tenant: acme, scopes: [tasks.run], disabled: true}}
- {{id: old, identity: 'spiffe://prod/ns/old/*', tenant: acme, scopes: [tasks.run], not_after: 2020-01-01T00:00:00Z}}
- {{id: host, identity: 'dns:worker.example', tenant: acme, scopes: [tasks.run], agents: ['*']}}
"""


def parts(directory: Path) -> Parts:
    """A server that asks clients for a certificate, and clients that have one nobody knows, and keys."""
    shown = authority().certificates(asks_clients=True)
    keys = KeyRing([default_key(KEY), *parse_keys(KEYS.encode(), "keys.yaml")])
    tls = authority().client(directory, "spiffe://elsewhere/nobody")
    return Parts(certificates=lambda: shown, tls=tls, keys=keys)


def client(running: Running, tls: Tls | None, *, key: str = "") -> AsyncClient:
    return AsyncClient(running.target, api_key=key, tls=tls, patience_s=0)


async def tenant_of(running: Running, directory: Path, *names: str, key: str = "") -> str:
    """Runs a task with a certificate for these names; whose it was."""
    async with client(running, authority().client(directory, *names), key=key) as caller:
        await caller.run("hi")
    return str([line for line in running.log if line["event"] == "rpc"][-1]["tenant"])


async def refusal(running: Running, directory: Path, *names: str, key: str = "") -> CallError:
    async with client(running, authority().client(directory, *names), key=key) as caller:
        with pytest.raises(CallError) as refused:
            await caller.run("hi")
    return refused.value


@pytest.mark.parametrize(
    ("names", "tenant"),
    [
        ((WORKER,), "acme"),
        (("spiffe://prod/ns/agents/sa/other",), "globex"),
        (("spiffe://prod/ns/agents/sa/worker/2",), "globex"),
        (("worker.example",), "acme"),
        (("WORKER.example",), "acme"),
        (("localhost", "10.0.0.1", WORKER), "acme"),
        (("spiffe://prod/ns/agents/sa/other", WORKER), "acme"),
    ],
)
async def test_a_certificate_stands_for_the_key_that_names_its_identity(
    tmp_path: Path, names: tuple[str, ...], tenant: str
) -> None:
    async with started(parts(tmp_path)) as running:
        assert await tenant_of(running, tmp_path, *names) == tenant


@pytest.mark.parametrize(
    "name",
    [
        "spiffe://prod/ns/agents",
        "spiffe://prod/ns/agents2/sa/worker",
        "spiffe://prod.evil/ns/agents/sa/worker",
        "spiffe://prod/ns/agents/sa/gone",
        "https://prod/ns/agents/sa/worker",
        "sub.worker.example",
        "spiffe-prod",
    ],
)
async def test_one_with_an_identity_that_nobody_named_is_refused_and_told_so(tmp_path: Path, name: str) -> None:
    async with started(parts(tmp_path)) as running:
        refused = await refusal(running, tmp_path, name)
        assert (refused.code, refused.reason) == ("UNAUTHENTICATED", "IDENTITY_UNKNOWN")
        assert refused.metadata["identity"].removeprefix("dns:") == name


async def test_one_whose_entry_has_ended_is_refused(tmp_path: Path) -> None:
    async with started(parts(tmp_path)) as running:
        assert (await refusal(running, tmp_path, "spiffe://prod/ns/old/x")).reason == "API_KEY_EXPIRED"


async def test_a_scope_that_its_entry_lacks_is_missing(tmp_path: Path) -> None:
    async with started(parts(tmp_path)) as running, client(running, authority().client(tmp_path, WORKER)) as caller:
        with pytest.raises(CallError, match="SCOPE_MISSING"):
            await caller.list_tasks()


async def test_the_common_name_is_nobodys_identity(tmp_path: Path) -> None:
    issued = authority().issue(common_name="worker.example")
    tls = Tls(authority().write(tmp_path), *issued.write(tmp_path, "unnamed"))
    async with started(parts(tmp_path)) as running, client(running, tls) as caller:
        with pytest.raises(CallError, match="API_KEY_MISSING"):
            await caller.run("hi")


async def test_a_key_counts_and_not_the_certificate_where_there_are_both(tmp_path: Path) -> None:
    async with started(parts(tmp_path)) as running:
        assert await tenant_of(running, tmp_path, WORKER, key=KEY) == "default"
        assert await tenant_of(running, tmp_path, "spiffe://elsewhere/nobody", key=KEY) == "default"
        assert (await refusal(running, tmp_path, WORKER, key="wrong")).reason == "API_KEY_INVALID"


@pytest.mark.parametrize("which", ["none", "another authority's"])
async def test_without_a_certificate_of_the_authority_nobody_connects_not_even_with_a_key(
    tmp_path: Path, which: str
) -> None:
    ca_file = authority().write(tmp_path)
    tls = Tls(ca_file) if which == "none" else Tls(ca_file, *Authority().issue(WORKER).write(tmp_path, "forged"))
    async with started(parts(tmp_path)) as running, client(running, tls, key=KEY) as caller:
        for call in (caller.run("hi"), caller.health()):
            with pytest.raises(CallError) as refused:
                await call
            assert refused.value.code == "UNAVAILABLE"
        assert not [line for line in running.log if line["event"] == "rpc"]


async def test_a_new_authority_of_clients_needs_no_restart(tmp_path: Path) -> None:
    newer = Authority("a newer authority")
    issued = authority().issue("127.0.0.1")
    shown = [authority().certificates(issued, asks_clients=True)]
    tls = Tls(authority().write(tmp_path), *newer.issue(WORKER).write(tmp_path, "newer"))
    async with started(replace(parts(tmp_path), certificates=lambda: shown[-1])) as running:
        async with client(running, tls) as caller:
            with pytest.raises(CallError):
                await caller.run("hi")
        shown.append(replace(shown[0], client_ca=authority().pem + newer.pem))
        async with client(running, tls) as caller:
            assert (await caller.run("hi")).output == "hello"
        assert await tenant_of(running, tmp_path, WORKER) == "acme"


async def test_without_an_authority_of_clients_certificates_are_not_asked_for(tmp_path: Path) -> None:
    shown = authority().certificates()
    plain = replace(parts(tmp_path), certificates=lambda: shown)
    async with started(plain) as running:
        assert (await refusal(running, tmp_path, WORKER)).reason == "API_KEY_MISSING"
