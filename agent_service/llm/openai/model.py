"""A model behind an OpenAI-compatible endpoint, over either of the two APIs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from agent_service.errors import LLMError
from agent_service.llm.base import ModelObserver, ModelReply, ModelRequest
from agent_service.llm.openai.body.events import Document, EventReader, parsed, reader_of
from agent_service.llm.openai.body.text_pieces import TextPieces
from agent_service.llm.openai.chat.reply import ReplyAssembler
from agent_service.llm.openai.chat.request import ChatRequests
from agent_service.llm.openai.endpoint import Endpoint
from agent_service.llm.openai.errors import Outcome, outcome_of
from agent_service.llm.openai.http_client import Connection, Content, content_of
from agent_service.llm.openai.patience import Patience
from agent_service.llm.openai.provider_state import StateKeeper
from agent_service.llm.openai.request_settings import Api, PassBack, RequestSettings
from agent_service.llm.openai.responses.reply import ResponsesAssembler
from agent_service.llm.openai.responses.request import ResponsesRequests
from agent_service.v1.error_reason_pb2 import (
    ERROR_REASON_LLM_AUTH,
    ERROR_REASON_LLM_NO_ANSWER,
    ERROR_REASON_LLM_UNAVAILABLE,
    ERROR_REASON_MODEL_NOT_FOUND,
)
from agent_service.v1.task_pb2 import Usage

# After the reply only the end of the body is missing; once it is read, the connection can be reused.
DRAIN_S = 0.1
CHECK_S = 10.0

# Names for which an error includes the place of configuration, in addition to parameters named by providers.
MODEL, MAX_TOKENS = "model", "max_tokens"


class Assembler(Protocol):
    """Assembles a reply from the events or the document of one API."""

    is_done: bool
    text: TextPieces
    reasoning: TextPieces

    @property
    def has_output(self) -> bool: ...
    @property
    def has_finished(self) -> bool: ...
    def add_event(self, data: bytes) -> None: ...
    def add_document(self, data: bytes) -> None: ...
    def usage(self, input_bytes: int) -> Usage: ...
    def reply(self, *, input_bytes: int, calls_before: int, model_id: str) -> ModelReply: ...


class OpenAIModel:
    """A Model behind an OpenAI-compatible endpoint. Owns its connections, made at the first request.

    `model_key` is its name in messages and errors. `places` has the place where each parameter of a request is
    configured, by the provider's name of the parameter: errors about a parameter include it. `on_refused` is called
    with parameter and error the first time that the provider rejects each of them. A reply must begin (text, reasoning
    or a tool call) within `first_token_s`, must then never be silent for `idle_s`, and must be complete within
    `total_s`, all counted from the request; comments that a server sends to keep a connection open count as silence.
    `unix_time` is for tests.
    """

    def __init__(
        self,
        *,
        settings: RequestSettings,
        endpoint: Endpoint,
        model_key: str = "",
        places: Mapping[str, str] | None = None,
        on_refused: Callable[[str, str], object] = lambda *_: None,
        total_s: float = 600.0,
        first_token_s: float = 120.0,
        idle_s: float = 60.0,
        connect_s: float = 5.0,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._places = places if places is not None else {}
        self._on_refused = on_refused
        self._refused: set[str] = set()
        self._total_s = total_s
        self._first_token_s = first_token_s
        self._idle_s = idle_s
        self._unix_time = unix_time
        self._connection = Connection(endpoint, connect_s)
        self._states = StateKeeper(settings.api, endpoint.base_url, settings.model_id)
        is_responses = settings.api is Api.RESPONSES
        self._requests = (ResponsesRequests if is_responses else ChatRequests)(settings, self._states, model_key)
        self._assembler: Callable[[StateKeeper | None], Assembler] = (
            ResponsesAssembler if is_responses else ReplyAssembler
        )
        self._keeps_states = settings.pass_back is not PassBack.NEVER

    async def __aenter__(self) -> OpenAIModel:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections. A later request makes new ones."""
        await self._connection.aclose()

    async def check(self) -> Mapping[str, str | None] | None:
        """Request the provider's list of models, to check that it is reachable and accepts our key. Return each model
        with the date of its shutdown, if there is one; None if the provider has no such list, or none for this key.

        Raises:
            LLMError: LLM_AUTH, the provider rejects the key; LLM_UNAVAILABLE, it cannot be reached.
        """
        try:
            async with asyncio.timeout(CHECK_S):
                body = await self._connection.get("/models")
        except Exception as exc:
            status = getattr(exc, "status_code", None)
            if status == 401:
                raise LLMError(ERROR_REASON_LLM_AUTH, "the model provider rejects the key") from exc
            # Any other status below 500 is an answer: not every server has the list, and not every key may read it.
            if status is None or status >= 500:
                message = "the model provider cannot be reached"
                raise LLMError(ERROR_REASON_LLM_UNAVAILABLE, message, retryable=True) from exc
            return None
        return _models_in(body)

    async def generate(self, request: ModelRequest, observer: ModelObserver) -> ModelReply:
        """Send one request; never retry it.

        Raises:
            LLMError: there is no reply. `usage` is set if the provider may have worked on the request.
        """
        body = b""
        assembler = self._assembler(self._states if self._keeps_states else None)
        patience = Patience(self._total_s, self._first_token_s, self._idle_s)
        try:
            body = self._requests.encode(request)
            try:
                await self._exchange(body, assembler, observer, patience)
            except TimeoutError:
                if not assembler.has_finished:
                    raise
            calls_before = sum(len(message.tool_calls) for message in request.messages)
            return assembler.reply(input_bytes=len(body), calls_before=calls_before, model_id=self._settings.model_id)
        except Exception as exc:
            is_over = patience.is_over and not assembler.has_finished
            outcome = patience.outcome() if is_over else outcome_of(exc, self._unix_time(), self._places)
            if outcome is None:
                raise
            raise self._error(outcome, request, assembler, len(body)) from exc

    async def _exchange(self, body: bytes, assembler: Assembler, observer: ModelObserver, patience: Patience) -> None:
        """Send one request and read its reply. Afterwards the connection is closed, or free for the next request."""
        await self._connection.prepare()
        async with contextlib.AsyncExitStack() as open_response:
            async with patience:
                response = await self._connection.post(body, observer.traceparent())
                open_response.push_async_callback(response.aclose)
                content = await open_response.enter_async_context(content_of(response))
                show = _Show(assembler, observer, shows_reasoning=self._settings.summary is not None)
                reading = _Reading(assembler, show, patience)
                await content.read_into(reading.take)
                reading.finish()
            await _drain(content)

    def _error(self, outcome: Outcome, request: ModelRequest, assembler: Assembler, body_bytes: int) -> LLMError:
        """Return the port's error. Its usage, if the provider worked on the request, is as reported or an estimate."""
        words, retryable = outcome.words, outcome.retryable
        if outcome.refuses_state and self._states.refuse(request.messages):
            words, retryable = f"{words}: the reasoning of earlier replies is not sent again", True
        elif place := self._place(outcome):
            words = f"{words}; see {place}"
        if outcome.parameter and outcome.parameter not in self._refused:
            self._refused.add(outcome.parameter)
            self._on_refused(outcome.parameter, words)
        usage = assembler.usage(body_bytes)
        is_charged = outcome.is_worked_on or assembler.has_output or not usage.estimated
        return LLMError(
            outcome.reason,
            words,
            retryable=retryable,
            retry_after_s=outcome.retry_after_s,
            usage=usage if is_charged else None,
        )

    def _place(self, outcome: Outcome) -> str:
        """Return the place where the rejected parameter is configured; "" if that is not known."""
        if outcome.reason == ERROR_REASON_MODEL_NOT_FOUND and (place := self._places.get(MODEL, "")):
            return f"{place}, which is {self._settings.model_id!r}"
        if outcome.reason == ERROR_REASON_LLM_NO_ANSWER and not outcome.retryable:
            return self._places.get(MAX_TOKENS, "")
        return self._places.get(outcome.parameter, "")


class _Show:
    """Passes new text of an assembler to the observer. `has_begun`: the reply has begun."""

    __slots__ = ("_assembler", "_observer", "_shows_reasoning", "has_begun")

    def __init__(self, assembler: Assembler, observer: ModelObserver, *, shows_reasoning: bool) -> None:
        self._assembler = assembler
        self._observer = observer
        self.has_begun = False
        self._shows_reasoning = shows_reasoning

    def __call__(self) -> None:
        if self._shows_reasoning and (reasoning := self._assembler.reasoning.take()):
            self._observer.reasoning(reasoning)
        text = self._assembler.text.take()
        if text or (not self.has_begun and self._assembler.has_output):
            self.has_begun = True
            self._observer.text(text)  # empty where the reply begins with a call or with reasoning


class _Reading:
    """Reads one body, as pieces of any size, into an assembler."""

    __slots__ = ("_assembler", "_head", "_patience", "_reader", "_show")

    def __init__(self, assembler: Assembler, show: _Show, patience: Patience) -> None:
        self._assembler = assembler
        self._show = show
        self._patience = patience
        self._head = b""
        self._reader: EventReader | Document | None = None

    def take(self, piece: bytes) -> bool:
        """Add a piece; return whether the reply is complete. Raises as the reader and the assembler do."""
        reader = self._reader
        if reader is None:
            piece = self._head = self._head + piece
            reader = self._reader = reader_of(piece)
            if reader is None:
                return False
        if isinstance(reader, Document):
            reader.feed(piece)
            return False
        assembler = self._assembler
        events = reader.feed(piece)
        try:
            for event in events:
                assembler.add_event(event)
        finally:
            self._show()  # also what came before an error
        if assembler.is_done:
            return True
        if assembler.has_finished:
            self._patience.finished()
        elif events and self._show.has_begun:
            self._patience.written()
        return False

    def finish(self) -> None:
        """Add what only the end of the body completes, unless the reply is complete. Raises as `take`."""
        if self._assembler.is_done:
            return
        if isinstance(self._reader, EventReader):
            for event in self._reader.finish():
                self._assembler.add_event(event)
        elif self._reader is not None:
            self._assembler.add_document(self._reader.data)
        self._show()


async def _drain(content: Content) -> None:
    """Read the end of the body, if it arrives at once. The reply is complete: no error here can invalidate it."""
    import httpx2

    with contextlib.suppress(TimeoutError, httpx2.HTTPError):
        async with asyncio.timeout(DRAIN_S):
            await content.read_into(lambda _: False)


def _models_in(body: bytes) -> Mapping[str, str | None] | None:
    """Return the models of a provider's list, each with its `shutdown_date`; None if the body is no such list."""
    try:
        document = parsed(body)
    except ValueError:
        return None
    listed = document.get("data") if isinstance(document, dict) else document
    models = {
        model["id"]: date if isinstance(date := model.get("shutdown_date"), str) else None
        for model in (listed if isinstance(listed, list) else ())
        if isinstance(model, dict) and isinstance(model.get("id"), str)
    }
    return models or None
