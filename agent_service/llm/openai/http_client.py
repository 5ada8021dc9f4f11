"""The HTTP client of one endpoint: the `openai` package, used below its typed layer.

The package sends one request and hands over the raw response. Its retries are off (ours are in `llm/retry`), its
streams are not used (ours are read in `body.events`), and its exceptions end in `errors`.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, cast

from agent_service.llm.openai.endpoint import Endpoint
from agent_service.llm.openai.errors import ClientUnusableError

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI, Omit


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
        from openai import AsyncOpenAI, Omit

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
                self._client = AsyncOpenAI(
                    api_key="none",
                    admin_api_key="",
                    base_url=self._endpoint.base_url,
                    default_query=self._endpoint.query,
                    max_retries=0,
                    # httpx2's timeouts are per operation, and so do not bound a call: `Patience` does.
                    timeout=httpx2.Timeout(None, connect=self._connect_s),
                )
            return self._client
