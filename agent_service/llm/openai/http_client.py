"""The HTTP client of one endpoint: the `openai` package, used below its typed layer.

The package sends one request and hands over the raw response. Its retries are off (ours are in `llm/retry`), its
streams are not used (ours are read in `body.events`), and its exceptions end in `errors`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.request import getproxies

from agent_service.llm.openai.endpoint import Endpoint
from agent_service.llm.openai.errors import ClientUnusableError

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI, Omit


class Content(Protocol):
    """The body of a response, decoded if it is compressed."""

    async def read_into(self, take: Callable[[bytes], bool]) -> None:
        """Give each piece to `take` when it arrives, until that returns True or the body ends. Call it again for the
        rest. Raises httpx2's exceptions, and what `take` raises.
        """


class Connection:
    """Owns one HTTP client, built at the first request."""

    def __init__(self, endpoint: Endpoint, connect_s: float) -> None:
        self._endpoint = endpoint
        self._connect_s = connect_s
        self._client: AsyncOpenAI | None = None
        self._headers: dict[str, str | Omit] = {}
        self._waiting_to_build = asyncio.Lock()
        self._building = threading.Lock()

    async def aclose(self) -> None:
        """Close all connections. A later request builds a new client."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def prepare(self) -> None:
        """Build the client if there is none, so that the time this takes is not charged to the provider.

        Raises:
            ClientUnusableError: the environment prevents that the client is built.
        """
        if self._client is None:
            await self._built_client()

    async def get(self, path: str) -> bytes:
        """Return the body of the answer. Raises openai's exceptions if the status is no success, and those of
        `prepare`.
        """
        import httpx2

        client = self._client or await self._built_client()
        options: Any = {"headers": self._headers, "follow_redirects": False}
        response: object = await client.get(path, cast_to=httpx2.Response, options=options)
        return cast("httpx2.Response", response).content

    async def post(self, body: bytes, traceparent: str) -> httpx2.Response:
        """Return the response as soon as its headers have arrived; raises as `get` does."""
        import httpx2
        from openai import AsyncStream

        client = self._client or await self._built_client()
        headers = self._headers | {"traceparent": traceparent} if traceparent else self._headers
        response: object = await client.post(
            self._endpoint.path,
            cast_to=httpx2.Response,
            content=body,
            options={"headers": headers, "follow_redirects": False},
            stream=True,
            stream_cls=AsyncStream[object],
        )
        return cast("httpx2.Response", response)  # the package returns the type of `cast_to` unchanged

    async def _built_client(self) -> AsyncOpenAI:
        async with self._waiting_to_build:
            # In a thread: importing and building take a second, which would block the event loop.
            try:
                return await asyncio.to_thread(self._build_client)
            except Exception as exc:
                # Invalid proxies or certificates of the environment: httpx2 reads them when it is built.
                raise ClientUnusableError(type(exc).__name__) from exc

    def _build_client(self) -> AsyncOpenAI:
        import httpx2
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Omit

        from agent_service.llm.openai.http1.pool import Pool

        with self._building:  # a thread continues when the task that waits for it is cancelled
            if self._client is None:
                # The empty strings and the omitted headers prevent that values of OPENAI_* variables of the environment
                # are sent to the server that `base_url` names.
                self._headers = {
                    "Authorization": Omit(),
                    "OpenAI-Organization": Omit(),
                    "OpenAI-Project": Omit(),
                    "Content-Type": "application/json",
                    "Accept": "text/event-stream, application/json",
                    "Accept-Encoding": "identity",  # compressed streams arrive in large blocks
                }
                self._headers |= self._endpoint.headers  # the package takes the last of names that differ in case
                # Behind a proxy httpx2 connects, by the variables that name it.
                is_direct = not {"all", "http", "https"}.intersection(getproxies())
                self._client = AsyncOpenAI(
                    api_key="none",
                    admin_api_key="",
                    base_url=self._endpoint.base_url,
                    default_query=self._endpoint.query,
                    max_retries=0,
                    http_client=DefaultAsyncHttpxClient(transport=Pool()) if is_direct else None,
                    # httpx2's timeouts are per operation, and so do not bound a call: `Patience` does.
                    timeout=httpx2.Timeout(None, connect=self._connect_s),
                )
            return self._client


def content_of(response: httpx2.Response) -> AbstractAsyncContextManager[Content]:
    """Return the body of a response, to be read within the block. The response is closed separately."""
    from agent_service.llm.openai.http1.pool import PUSHED

    is_encoded = response.headers.get("content-encoding", "identity") != "identity"
    pushed: Content | None = response.extensions.get(PUSHED)
    if pushed is not None and not is_encoded:
        return nullcontext(pushed)
    return _Pulled(response.aiter_bytes() if is_encoded else response.aiter_raw())


class _Pulled:
    """The body as httpx2 iterates over it."""

    def __init__(self, pieces: AsyncGenerator[bytes, None]) -> None:
        self._pieces = pieces

    async def __aenter__(self) -> Content:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._pieces.aclose()

    async def read_into(self, take: Callable[[bytes], bool]) -> None:
        async for piece in self._pieces:
            if take(piece):
                return
