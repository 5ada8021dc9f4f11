"""The connections of one client, as a transport of `httpx2`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TypeAlias

import httpx2

from agent_service.llm.openai.http1.dialing import dial
from agent_service.llm.openai.http1.exchange import Exchange, Take

CONNECTIONS_MAX = 1000
IDLE_MAX = 100
IDLE_S = 5.0
# The extension of a response that has its `Body`.
PUSHED = "agent_service.body"

Origin: TypeAlias = tuple[bytes, bytes, int]


class Pool(httpx2.AsyncBaseTransport):
    """Connects directly, without a proxy. A connection is used again for IDLE_S after a complete response."""

    def __init__(self) -> None:
        self._tls = httpx2.create_ssl_context()
        self._tls.set_alpn_protocols(["http/1.1"])
        self._room = asyncio.Semaphore(CONNECTIONS_MAX)
        self._used: set[Exchange] = set()
        self._idle: dict[Origin, list[tuple[Exchange, float]]] = {}  # those that were used last at the end
        self._is_closed = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        scheme = url.raw_scheme
        if scheme not in (b"http", b"https") or not url.raw_host:
            raise httpx2.UnsupportedProtocol("the URL is none of http or https")
        port = (443 if scheme == b"https" else 80) if url.port is None else url.port
        if not 0 < port < 65536:
            raise httpx2.InvalidURL("there is no such port")  # the resolver would take another one
        origin = (scheme, url.raw_host, port)
        content = await request.aread()
        await self._room.acquire()
        exchange = None
        try:
            exchange = self._free(origin) or await self._connected(origin, _connect_s(request))
            self._used.add(exchange)
            head = await exchange.send(request.method.encode(), url.raw_path, request.headers.raw, content)
        except BaseException:
            self.release(origin, exchange)
            raise
        body = Body(self, origin, exchange)
        extensions = {"http_version": b"HTTP/" + head.http_version, "reason_phrase": head.reason, PUSHED: body}
        return httpx2.Response(head.status_code, headers=head.headers.raw_items(), stream=body, extensions=extensions)

    async def aclose(self) -> None:
        self._is_closed = True
        for exchange in [*self._used, *(each for free in self._idle.values() for each, _ in free)]:
            exchange.close()
        self._idle.clear()

    def release(self, origin: Origin, exchange: Exchange | None) -> None:
        """Keep a connection for the next request, if it can be used for one; else close it. None: there is none."""
        self._room.release()
        if exchange is None:
            return
        self._used.discard(exchange)
        free, now = self._idle.setdefault(origin, []), time.monotonic()
        while free and now - free[0][1] > IDLE_S:
            free.pop(0)[0].close()
        if exchange.is_reusable and not (self._is_closed or exchange.is_stale or len(free) >= IDLE_MAX):
            free.append((exchange, now))
        else:
            exchange.close()

    def _free(self, origin: Origin) -> Exchange | None:
        free, now = self._idle.get(origin, []), time.monotonic()
        while free:
            pair = free.pop()
            if not self._is_stale(pair, now):
                return pair[0]
        return None

    def _is_stale(self, pair: tuple[Exchange, float], now: float) -> bool:
        exchange, since = pair
        if exchange.is_stale or now - since > IDLE_S:
            exchange.close()
            return True
        return False

    async def _connected(self, origin: Origin, timeout_s: float | None) -> Exchange:
        scheme, raw_host, port = origin
        host = raw_host.decode("ascii")
        loop = asyncio.get_running_loop()
        is_encrypted = scheme == b"https"
        try:
            async with asyncio.timeout(timeout_s):
                sock = await dial(host, port)
                try:
                    _, exchange = await loop.create_connection(
                        Exchange,
                        sock=sock,
                        ssl=self._tls if is_encrypted else None,
                        server_hostname=host if is_encrypted else None,
                    )
                except BaseException:
                    sock.close()
                    raise
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(str(error)) from error
        except (OSError, ValueError) as error:  # ValueError: what is no name of a host, as `a..b`
            raise httpx2.ConnectError(str(error)) from error
        return exchange


def _connect_s(request: httpx2.Request) -> float | None:
    timeout_s: float | None = request.extensions.get("timeout", {}).get("connect")
    return timeout_s


class Body(httpx2.AsyncByteStream):
    """The body of a response. Close it: its connection is in use until then."""

    def __init__(self, pool: Pool, origin: Origin, exchange: Exchange) -> None:
        self._pool = pool
        self._origin = origin
        self._exchange = exchange
        self._is_open = True

    async def read_into(self, take: Take) -> None:
        """As `Exchange.read_into`."""
        await self._exchange.read_into(take)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            found: list[bytes] = []

            def take(piece: bytes, found: list[bytes] = found) -> bool:
                found.append(piece)
                return True

            await self._exchange.read_into(take)
            if not found:
                return
            yield found[0]

    async def aclose(self) -> None:
        if self._is_open:
            self._is_open = False
            self._pool.release(self._origin, self._exchange)
