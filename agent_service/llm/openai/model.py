"""Chat Completions over any Endpoint: OpenAI, Azure, and the many servers that speak its dialect.

The `openai` package is used below its typed layer: it sends one request and hands over the raw response. Its retries
are off (ours are in `retry`), its streams are not used (ours are in `openai_stream`), and its exceptions end in
`openai_errors`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from agent_service.errors import LLMError
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.llm.openai.call_pieces import BrokenReplyError
from agent_service.llm.openai.chat_reply import REPLY_BYTES_MAX, EventReader, ReplyAssembler
from agent_service.llm.openai.chat_request import encode_request
from agent_service.llm.openai.endpoint import Endpoint
from agent_service.llm.openai.errors import TIMED_OUT, Outcome, outcome_of
from agent_service.llm.openai.settings import RequestSettings
from agent_service.v1.error_reason_pb2 import ERROR_REASON_LLM_AUTH, ERROR_REASON_LLM_UNAVAILABLE

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI, Omit

# After [DONE] only the end of the body is missing; with it read, the connection can be used again.
DRAIN_S = 0.1
CHECK_S = 10.0


class OpenAIModel:
    """A Model behind an OpenAI-compatible endpoint. Owns one HTTP client, built at the first request.

    A reply must begin (text, reasoning or a tool call)
    within `first_token_s`, must then never be silent for `idle_s`, and must be whole within `total_s`, all counted from
    the request; comments that a server sends to keep a connection open are silence. `unix_time` is for tests.
    """

    def __init__(
        self,
        *,
        settings: RequestSettings,
        endpoint: Endpoint,
        told: Mapping[str, str] = MappingProxyType({}),
        on_refused: Callable[[str, str], object] = lambda *_: None,
        total_s: float = 600.0,
        first_token_s: float = 120.0,
        idle_s: float = 60.0,
        connect_s: float = 5.0,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self._model_id = settings.model_id
        self._endpoint = endpoint
        self._told = told
        self._on_refused = on_refused
        self._capabilities = settings.capabilities
        self._settings: dict[str, Any] = {"model": settings.model_id}
        if settings.temperature is not None:
            self._settings["temperature"] = settings.temperature
        if settings.max_tokens is not None:
            self._settings[settings.max_tokens_parameter] = settings.max_tokens
        self._total_s = total_s
        self._first_token_s = first_token_s
        self._idle_s = idle_s
        self._connect_s = connect_s
        self._unix_time = unix_time
        self._client: AsyncOpenAI | None = None
        self._headers: dict[str, str | Omit] = {}
        self._waiting_to_build = asyncio.Lock()
        self._building = threading.Lock()

    async def __aenter__(self) -> OpenAIModel:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections. A later request builds a new client."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def check(self) -> Mapping[str, str | None] | None:
        """Ask the provider for the list of its models: whether it is there, and takes our key. The models by id, each
        with the date on which it ends, where there is one; None: it has no list that can be used.

        Raises:
            LLMError: LLM_AUTH, it rejects the key; LLM_UNAVAILABLE, it cannot be asked.
        """
        import httpx2

        try:
            async with asyncio.timeout(CHECK_S):
                client = self._client or await self._built_client()
                options: Any = {"headers": self._headers, "follow_redirects": False}
                await client.get("/models", cast_to=httpx2.Response, options=options)
        except Exception as exc:
            status = getattr(exc, "status_code", None)
            if status == 401:
                raise LLMError(ERROR_REASON_LLM_AUTH, "the model provider rejects the key") from exc
            # Any other answer below 500 is one: not every server has the list, and not every key may read it.
            if status is None or status >= 500:
                message = "the model provider cannot be reached"
                raise LLMError(ERROR_REASON_LLM_UNAVAILABLE, message, retryable=True) from exc
        return None

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        """Ask once, whatever comes of it.

        Raises:
            LLMError: there is no reply. `usage` is set if the provider may have worked on one.
        """
        body = b""
        assembler = ReplyAssembler()
        patience = _Patience(self._total_s, self._first_token_s, self._idle_s)
        try:
            body = encode_request(request, self._settings, self._capabilities)
            await self._exchange(body, assembler, observer, patience)
            calls_before = sum(len(message.tool_calls) for message in request.messages)
            return assembler.reply(input_bytes=len(body), calls_before=calls_before, model_id=self._model_id)
        except Exception as exc:
            outcome = patience.outcome() if patience.is_over else outcome_of(exc, self._unix_time())
            if outcome is None:
                raise
            raise _llm_error(outcome, assembler, len(body)) from exc

    async def _exchange(
        self, body: bytes, assembler: ReplyAssembler, observer: ModelObserver, patience: _Patience
    ) -> None:
        """Send one request and read its reply, with the connection closed or free for the next when this is over."""
        client = self._client or await self._built_client()
        async with contextlib.AsyncExitStack() as open_response:
            async with patience:
                response = await self._send(client, body, observer.traceparent())
                open_response.push_async_callback(response.aclose)
                pieces = await open_response.enter_async_context(contextlib.aclosing(_pieces(response)))
                if _is_event_stream(response):
                    await _read_events(pieces, assembler, observer, patience)
                else:
                    await _read_document(pieces, assembler, observer)
            await _drain(pieces)

    async def _send(self, client: AsyncOpenAI, body: bytes, traceparent: str) -> httpx2.Response:
        """The response once its head is in; openai's exceptions where its status is no success."""
        import httpx2
        from openai import AsyncStream

        headers = self._headers | {"traceparent": traceparent} if traceparent else self._headers
        response: object = await client.post(
            self._endpoint.path,
            cast_to=httpx2.Response,
            content=body,
            options={"headers": headers, "follow_redirects": False},
            stream=True,
            stream_cls=AsyncStream[object],
        )
        return cast("httpx2.Response", response)  # what `cast_to` names is returned as it is

    async def _built_client(self) -> AsyncOpenAI:
        async with self._waiting_to_build:
            # In a thread: importing and building take a second that the loop's other tasks shall not wait for.
            return await asyncio.to_thread(self._build_client)

    def _build_client(self) -> AsyncOpenAI:
        import httpx2
        from openai import AsyncOpenAI, Omit

        with self._building:  # a thread works on when the task that waits for it is cancelled
            if self._client is None:
                # The empty strings and the headers left out keep OPENAI_* variables of the environment, and what they
                # hold, away from whatever server `base_url` names.
                self._headers = {
                    "Authorization": Omit(),
                    "OpenAI-Organization": Omit(),
                    "OpenAI-Project": Omit(),
                    "Content-Type": "application/json",
                    "Accept": "text/event-stream, application/json",
                    "Accept-Encoding": "identity",  # compressed streams come in lumps
                }
                self._headers |= self._endpoint.headers  # the package takes the last of two that differ in case alone
                self._client = AsyncOpenAI(
                    api_key="none",
                    admin_api_key="",
                    base_url=self._endpoint.base_url,
                    default_query=self._endpoint.query,
                    max_retries=0,
                    # Per operation, and so no bound on a call: `_Patience` is one.
                    timeout=httpx2.Timeout(None, connect=self._connect_s),
                )
            return self._client


class _Patience:
    """How long the model may keep us waiting: an `async with` block that ends in TimeoutError when that is over."""

    def __init__(self, total_s: float, first_token_s: float, idle_s: float) -> None:
        self._total_s = total_s
        self._first_token_s = first_token_s
        self._idle_s = idle_s
        self._time = asyncio.get_running_loop().time
        self._ends_at = 0.0
        self._has_begun = False
        self._moves_at = 0.0
        self._scope = asyncio.timeout(None)  # the one that counts begins with the block

    async def __aenter__(self) -> None:
        now = self._time()
        self._ends_at = now + self._total_s
        self._scope = asyncio.timeout_at(min(self._ends_at, now + self._first_token_s))
        await self._scope.__aenter__()

    async def __aexit__(self, *exc_info: Any) -> None:
        await self._scope.__aexit__(*exc_info)

    def written(self) -> None:
        """The model has written something."""
        now = self._time()
        if now < self._moves_at:
            return
        # Moving a timer costs as much as reading a chunk: it moves in steps of a twentieth, and fires that much late.
        step_s = self._idle_s / 20
        self._moves_at = now + step_s
        self._has_begun = True
        self._scope.reschedule(min(self._ends_at, now + self._idle_s + step_s))

    @property
    def is_over(self) -> bool:
        return self._scope.expired()

    def outcome(self) -> Outcome:
        if self._scope.when() == self._ends_at:
            words = f"the model did not finish within {self._total_s:g} s"
        elif self._has_begun:
            words = f"the model fell silent for {self._idle_s:g} s"
        else:
            words = f"the model wrote nothing within {self._first_token_s:g} s"
        return Outcome(TIMED_OUT.reason, words, retryable=True, is_worked_on=True)


def _is_event_stream(response: httpx2.Response) -> bool:
    """Whether the reply is a stream, as we asked, or one document.

    Raises:
        BrokenReplyError: it is neither, such as a gateway's web page.
    """
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in ("text/event-stream", ""):
        return True
    if content_type == "application/json":
        return False
    raise BrokenReplyError("its content type is neither an event stream nor JSON")


def _pieces(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    """The body as the network brings it, decoded only where it has to be."""
    is_encoded = response.headers.get("content-encoding", "identity") != "identity"
    return response.aiter_bytes() if is_encoded else response.aiter_raw()


async def _read_events(
    pieces: AsyncGenerator[bytes, None], assembler: ReplyAssembler, observer: ModelObserver, patience: _Patience
) -> None:
    reader = EventReader()
    async for piece in pieces:
        events = reader.feed(piece)
        for event in events:
            assembler.add_event(event)
        if text := assembler.take_text():
            observer.text(text)
        if assembler.is_done:
            return
        if events and assembler.has_output:
            patience.written()
    for event in reader.finish():
        assembler.add_event(event)
    if text := assembler.take_text():
        observer.text(text)


async def _read_document(
    pieces: AsyncGenerator[bytes, None], assembler: ReplyAssembler, observer: ModelObserver
) -> None:
    document = bytearray()
    async for piece in pieces:
        document += piece
        if len(document) > REPLY_BYTES_MAX:
            raise BrokenReplyError("it is too long", retryable=False)
    assembler.add_document(bytes(document))
    if text := assembler.take_text():
        observer.text(text)


async def _drain(pieces: AsyncGenerator[bytes, None]) -> None:
    """Read the end of the body, if it comes at once. The reply is whole: nothing that happens here can spoil it."""
    import httpx2

    with contextlib.suppress(TimeoutError, httpx2.HTTPError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in pieces:
                pass


def _llm_error(outcome: Outcome, assembler: ReplyAssembler, body_bytes: int) -> LLMError:
    """The error of the port. What the provider worked on is charged: what it reported, else an estimate."""
    is_charged = outcome.is_worked_on or assembler.has_output
    return LLMError(
        outcome.reason,
        outcome.words,
        retryable=outcome.retryable,
        retry_after_s=outcome.retry_after_s,
        usage=assembler.usage(body_bytes) if is_charged else None,
    )
