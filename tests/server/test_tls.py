"""TLS at the wire: who can connect to whom, and what happens when certificates change."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from agent_service.client import AsyncClient, CallError, Tls
from tests.fakes.authority import LOOPBACK, Authority, authority
from tests.harness import KEY, Parts, Running, started


def parts(directory: Path) -> Parts:
    """A server of `authority()`, and clients that trust it."""
    shown = authority().certificates()
    return Parts(certificates=lambda: shown, tls=authority().client(directory))


def other_client(running: Running, tls: Tls | None) -> AsyncClient:
    return AsyncClient(running.target, api_key=KEY, tls=tls, patience_s=0)


async def test_calls_and_streams_work_over_tls(tmp_path: Path) -> None:
    async with started(parts(tmp_path)) as running:
        assert (await running.client.run("hi")).output == "hello"
        assert [event async for event in running.client.stream("hi")]


@pytest.mark.parametrize("which", ["no tls", "another authority", "another name"])
async def test_a_client_that_cannot_know_the_server_does_not_talk_to_it(tmp_path: Path, which: str) -> None:
    (tmp_path / "other").mkdir()
    clients = {
        "no tls": None,
        "another authority": Authority().client(tmp_path / "other"),
        "another name": Tls(authority().write(tmp_path), server_name="agents.example"),
    }
    async with started(parts(tmp_path)) as running, other_client(running, clients[which]) as stranger:
        with pytest.raises(CallError) as refused:
            await stranger.run("hi")
        assert refused.value.code == "UNAVAILABLE"
        assert (await running.client.run("hi")).output == "hello"


async def test_a_certificate_for_another_name_will_do_where_the_client_asks_for_that_name(tmp_path: Path) -> None:
    shown = authority().certificates(authority().issue("agents.example"))
    tls = Tls(authority().write(tmp_path), server_name="agents.example")
    async with started(Parts(certificates=lambda: shown, tls=tls)) as running:
        assert (await running.client.run("hi")).output == "hello"


@pytest.mark.parametrize(
    ("version", "agreed"),
    [
        (ssl.TLSVersion.TLSv1, None),
        (ssl.TLSVersion.TLSv1_1, None),
        (ssl.TLSVersion.TLSv1_2, "h2"),
        (ssl.TLSVersion.TLSv1_3, "h2"),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_nothing_older_than_tls_1_2_is_spoken(
    tmp_path: Path, version: ssl.TLSVersion, agreed: str | None
) -> None:
    async with started(parts(tmp_path)) as running:
        assert await asyncio.to_thread(handshake, running, version) == agreed


def handshake(running: Running, version: ssl.TLSVersion) -> str | None:
    """The protocol that it agrees on; None if it fails."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("DEFAULT@SECLEVEL=0")  # a client that would take anything
    context.minimum_version, context.maximum_version = version, version
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=authority().pem.decode())
    host, _, port = running.target.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        try:
            with context.wrap_socket(connection, server_hostname=host) as protected:
                return protected.selected_alpn_protocol()
        except ssl.SSLError:
            return None


async def test_new_certificates_are_shown_to_the_next_client_and_the_others_stay(tmp_path: Path) -> None:
    newer = Authority("a newer authority")
    (tmp_path / "newer").mkdir()
    shown = [authority().certificates()]
    tls = authority().client(tmp_path)
    async with started(Parts(certificates=lambda: shown[-1], tls=tls)) as running:
        await running.client.list_agents()
        shown.append(newer.certificates(newer.issue(*LOOPBACK)))
        async with other_client(running, newer.client(tmp_path / "newer")) as client:
            await client.list_agents()
        async with other_client(running, tls) as client:
            with pytest.raises(CallError):
                await client.list_agents()
        assert await running.client.list_agents()
