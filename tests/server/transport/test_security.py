"""TLS and client certificates on each transport."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from agent_service.server.tls import server_credentials
from agent_service.tls.certificates import Certificates
from tests.fakes.authority import LOOPBACK, Authority
from tests.server.transport.serving import LOCAL, Serve, Served, echo, refusal

PATH = "/test.Service/Call"
SPIFFE = "spiffe://test/caller"


def secure(served: Served, authority: Authority, directory: Path, *names: str) -> Any:
    """A channel to a server of this authority, with a certificate for these names."""
    tls = authority.client(directory, *names)
    assert tls.ca_file is not None
    key = Path(tls.key_file).read_bytes() if tls.key_file else None
    certificate = Path(tls.cert_file).read_bytes() if tls.cert_file else None
    credentials = grpc.ssl_channel_credentials(Path(tls.ca_file).read_bytes(), key, certificate)
    return aio.secure_channel(served.target, credentials, options=LOCAL)


async def test_calls_work_over_tls_and_plain_text_does_not(serve: Serve, tmp_path: Path) -> None:
    authority = Authority()
    shown = authority.certificates()
    async with serve(credentials=server_credentials(lambda: shown)) as served:
        served.handlers.unary(PATH, echo)
        async with secure(served, authority, tmp_path) as channel:
            assert await channel.unary_unary(PATH)(b"x" * 100_000) == b"x" * 100_000
        async with served.channel() as plain:
            assert (await refusal(plain.unary_unary(PATH)(b""))).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_client_certificate_is_in_the_auth_context(serve: Serve, tmp_path: Path) -> None:
    seen: list[Any] = []

    async def look(_: Any, context: Any) -> bytes:
        seen.append(context.auth_context())
        return b""

    authority = Authority()
    shown = authority.certificates(asks_clients=True)
    async with serve(credentials=server_credentials(lambda: shown)) as served:
        served.handlers.unary(PATH, look)
        async with secure(served, authority, tmp_path, SPIFFE) as channel:
            await channel.unary_unary(PATH)(b"")
    assert list(seen[0]["peer_uri"]) == [SPIFFE.encode()]


async def test_a_client_without_a_certificate_is_refused_where_one_is_asked_for(serve: Serve, tmp_path: Path) -> None:
    authority = Authority()
    shown = authority.certificates(asks_clients=True)
    async with serve(credentials=server_credentials(lambda: shown)) as served:
        served.handlers.unary(PATH, echo)
        async with secure(served, authority, tmp_path) as channel:
            assert (await refusal(channel.unary_unary(PATH)(b""))).code() is grpc.StatusCode.UNAVAILABLE


async def test_the_next_handshake_shows_the_certificates_that_there_are_then(serve: Serve, tmp_path: Path) -> None:
    first, second = Authority(), Authority()
    shown: list[Certificates] = [first.certificates(first.issue(*LOOPBACK))]
    async with serve(credentials=server_credentials(lambda: shown[-1])) as served:
        served.handlers.unary(PATH, echo)
        async with secure(served, first, tmp_path) as old:
            assert await old.unary_unary(PATH)(b"a") == b"a"
            shown.append(second.certificates(second.issue(*LOOPBACK)))
            async with secure(served, second, tmp_path) as new:
                assert await new.unary_unary(PATH)(b"a") == b"a"
            assert await old.unary_unary(PATH)(b"a") == b"a"
