"""Connections to a provider: which are used, how long, and what a piece of a reply costs."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, cast

import httpcore2
import httpx2
import pytest

from agent_service.errors import LLMError
from agent_service.llm.base import Message, ModelRequest, Role
from agent_service.llm.openai.http1 import exchange as exchange_module
from agent_service.llm.openai.http1 import pool as pool_module
from agent_service.llm.openai.http1.dialing import dial
from agent_service.llm.openai.http1.exchange import Exchange
from agent_service.llm.openai.http1.pool import Pool
from agent_service.llm.openai.model import OpenAIModel
from tests.fakes.authority import Authority
from tests.fakes.provider import FakeProvider, finish, hanging_stream, stream, text
from tests.llm.conftest import MakeModel
from tests.llm.observer import RecordingObserver

HELLO = ModelRequest([Message(Role.USER, "hello")], [], 2.0**31, "")
SOON_S = 20.0


async def test_a_connection_that_its_server_closed_is_not_used_again(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    async def reply_and_close(exchange: Any) -> None:
        await stream(text("a"), finish())(exchange)
        exchange.cut()

    provider.will(reply_and_close, stream(text("b"), finish()))
    assert (await model.generate(HELLO, observer)).text == "a"
    async with asyncio.timeout(SOON_S):
        await provider.requests[0].client_gone.wait()
    assert (await model.generate(HELLO, observer)).text == "b"
    assert provider.connected == 2


async def test_a_connection_is_not_used_after_a_while_without_requests(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.will(*[stream(text("a"), finish())] * 3)
    await model.generate(HELLO, observer)
    await model.generate(HELLO, observer)
    assert provider.connected == 1
    monkeypatch.setattr(pool_module, "IDLE_S", -1.0)
    await model.generate(HELLO, observer)
    assert provider.connected == 2


async def test_a_response_that_says_close_and_one_cut_short_end_their_connections(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    reply = stream(text("a"), finish())
    provider.will(stream(text("a"), finish(), headers={"connection": "Close"}), reply, reply)
    await model.generate(HELLO, observer)
    await model.generate(HELLO, observer)
    assert provider.connected == 2


async def test_a_large_body_is_left_to_the_network_until_it_is_read(
    provider: FakeProvider, model: OpenAIModel, observer: RecordingObserver
) -> None:
    words = "word " * 200_000
    provider.will(stream(text(words), finish()), stream(text("b"), finish()))
    assert (await model.generate(HELLO, observer)).text == words
    assert (await model.generate(HELLO, observer)).text == "b"


async def test_no_more_connections_than_the_maximum_are_open(
    provider: FakeProvider, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "CONNECTIONS_MAX", 2)
    model = make_model()
    provider.will(*[stream(text("a"), finish())] * 6)
    await asyncio.gather(*(model.generate(HELLO, RecordingObserver()) for _ in range(6)))
    assert (len(provider.requests), provider.connected) == (6, 2)


async def test_text_is_told_in_the_context_of_the_request(provider: FakeProvider, model: OpenAIModel) -> None:
    """Also on a connection that another request made."""
    who = ContextVar[str]("who")
    told: list[str] = []

    class Observer(RecordingObserver):
        def text(self, text: str) -> None:
            told.append(who.get())

    async def ask(name: str) -> None:
        who.set(name)
        await model.generate(HELLO, Observer())

    provider.will(*[stream(text("a"), finish())] * 2)
    for name in ("first", "second"):
        await asyncio.create_task(ask(name))
    assert set(told) == {"first", "second"}
    assert provider.connected == 1


async def test_an_error_of_an_observer_ends_the_request(provider: FakeProvider, model: OpenAIModel) -> None:
    class Broken(RecordingObserver):
        def text(self, text: str) -> None:
            raise LookupError("a bug")

    provider.will(hanging_stream(text("a")))
    async with asyncio.timeout(SOON_S):
        with pytest.raises(LookupError):
            await model.generate(HELLO, Broken())
        await provider.requests[0].client_gone.wait()


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_a_provider_must_show_a_certificate_that_is_trusted(
    tmp_path: Path, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, is_trusted: bool
) -> None:
    authority = Authority()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*authority.issue("127.0.0.1").write(tmp_path, "server"))
    trusted = authority if is_trusted else Authority("another")
    context = ssl.create_default_context(cadata=trusted.pem.decode())
    monkeypatch.setattr(httpcore2, "default_ssl_context", lambda **_: context)
    async with FakeProvider(tls=server) as provider:
        provider.will(stream(text("secret"), finish()))
        model = make_model(base_url=provider.base_url)
        if is_trusted:
            assert (await model.generate(HELLO, RecordingObserver())).text == "secret"
        else:
            with pytest.raises(LLMError, match="could not be reached") as raised:
                await model.generate(HELLO, RecordingObserver())
            assert raised.value.usage is None
        await model.aclose()


async def test_where_the_environment_names_a_proxy_it_gets_the_requests(
    provider: FakeProvider, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{provider.port}")
    provider.will(stream(text("through it"), finish()))
    model = make_model(base_url="http://models.invalid/v1")
    assert (await model.generate(HELLO, RecordingObserver())).text == "through it"
    assert provider.requests[0].path == "http://models.invalid/v1/chat/completions"


async def test_an_address_that_is_silent_only_delays_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connect = loop.sock_connect
    tried: list[Any] = []

    async def addresses(*_: Any, **__: Any) -> list[Any]:
        stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*stream, (host, port)) for host in ("192.0.2.1", "127.0.0.1")]

    async def connected(sock: socket.socket, address: Any) -> None:
        tried.append(address[0])
        await (asyncio.Event().wait() if address[0] == "192.0.2.1" else connect(sock, address))

    monkeypatch.setattr(loop, "getaddrinfo", addresses)
    monkeypatch.setattr(loop, "sock_connect", connected)
    async with asyncio.timeout(SOON_S):
        sock = await dial("models", port)
    assert sock.getpeername()[0] == "127.0.0.1"
    assert tried == ["192.0.2.1", "127.0.0.1"]
    sock.close()
    server.close()


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".test"])
async def test_what_is_no_name_of_a_host_cannot_be_reached(make_model: MakeModel, host: str) -> None:
    with pytest.raises(LLMError, match="could not be reached") as raised:
        await make_model(base_url=f"http://{host}/v1").generate(HELLO, RecordingObserver())
    assert raised.value.usage is None


@pytest.mark.parametrize("added", [65_536, 0])
async def test_a_port_that_does_not_exist_is_not_taken_for_another(
    provider: FakeProvider, make_model: MakeModel, added: int
) -> None:
    provider.will(stream(text("of another port"), finish()))
    port = provider.port + added if added else 0
    with pytest.raises(LLMError, match="could not be sent") as raised:
        await make_model(base_url=f"http://127.0.0.1:{port}/v1").generate(HELLO, RecordingObserver())
    assert (raised.value.usage, raised.value.retryable, provider.connected) == (None, False, 0)


class Server:
    """Answers each request with the bytes that `answer` returns, by the number of its connection; reads no body."""

    def __init__(self, answer: Callable[[int], bytes]) -> None:
        self._answer = answer
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        cast("asyncio.Transport", writer.transport).pause_reading()
        writer.write(self._answer(len(self._writers)))


NOTHING = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


async def test_a_connection_is_not_used_again_while_its_server_leaves_a_request_unread() -> None:
    async with (
        asyncio.timeout(SOON_S),
        Server(lambda number: NOTHING.replace(b"200", b"413") if number == 1 else NOTHING) as url,
        httpx2.AsyncClient(transport=Pool(), trust_env=False) as client,
    ):
        assert (await client.post(url, content=bytes(20_000_000))).status_code == 413
        assert (await client.post(url, content=b"small")).status_code == 200


async def test_a_response_is_not_complete_where_the_pool_closed_its_connection() -> None:
    pool = Pool()
    async with (
        asyncio.timeout(SOON_S),
        Server(lambda _: b"HTTP/1.1 200 OK\r\n\r\nhalf of it") as url,
        httpx2.AsyncClient(transport=pool, trust_env=False) as client,
        client.stream("POST", url) as response,
    ):
        pieces = response.aiter_raw()
        assert await anext(pieces) == b"half of it"
        await pool.aclose()
        with pytest.raises(httpx2.ReadError):
            await anext(pieces)


async def test_a_closed_pool_keeps_no_connection() -> None:
    pool = Pool()
    async with (
        asyncio.timeout(SOON_S),
        Server(lambda _: NOTHING) as url,
        httpx2.AsyncClient(transport=pool, trust_env=False) as client,
    ):
        asking = asyncio.create_task(client.post(url))
        await asyncio.sleep(0)
        await pool.aclose()  # while it connects
        assert (await asking).status_code == 200
        assert not any(pool._idle.values())


async def test_the_idle_connections_are_not_polled_for_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    polls: list[asyncio.Transport] = []

    def quiet(transport: asyncio.Transport) -> bool:
        polls.append(transport)
        return True

    monkeypatch.setattr(exchange_module, "_is_quiet", quiet)
    pool = Pool()
    origin = (b"http", b"test", 80)
    async with Server(lambda _: NOTHING) as url:
        port = httpx2.URL(url).port or 0
        for _ in range(20):
            _, exchange = await asyncio.get_running_loop().create_connection(Exchange, "127.0.0.1", port)
            await pool._room.acquire()
            pool.release(origin, exchange)
        polls.clear()
        found = pool._free(origin)
        await pool._room.acquire()
        pool.release(origin, found)
        assert len(polls) == 2
        await pool.aclose()
