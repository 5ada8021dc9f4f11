"""A provider that speaks OpenAI's two APIs and is as strict as the real ones are reported to be.

    async with StrictProvider() as provider:
        ...  # tasks like "3 turns, please" against provider.base_url
        assert provider.refusals == [] and provider.carried == 2

What `will` is given is answered first, as by any FakeProvider, with `provider.play` for a turn of the model in between.

    python -m tests.fakes.strict.server --port 8099    by itself; a line of JSON on stdout for the start and each
    request
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.fakes import responses
from tests.fakes.provider import Exchange, FakeProvider, Reply, Request, document, status, stream
from tests.fakes.strict.chat import ChatApi
from tests.fakes.strict.chat import document as chat_document
from tests.fakes.strict.model import MODELS, Call, Personality, PlayedModel
from tests.fakes.strict.refusal import Refusal
from tests.fakes.strict.responses import ResponsesApi

Json = dict[str, Any]

__all__ = ["MODELS", "Call", "StrictProvider"]


@dataclass(slots=True)
class StrictProvider:
    """`refusals` is what it refused so far; `carried` counts the pieces of a model's own state that came back."""

    port: int = 0
    slips: dict[int, Sequence[Call]] = field(default_factory=dict)
    tell: Callable[[Json], None] = lambda _: None
    refusals: list[Refusal] = field(default_factory=list)
    fake: FakeProvider = field(default_factory=FakeProvider)
    _apis: tuple[ChatApi, ResponsesApi] = field(init=False)

    def __post_init__(self) -> None:
        model = PlayedModel(self.slips)
        self._apis = ChatApi(model), ResponsesApi(model)
        self.fake.port = self.port
        self.fake.otherwise = self.play
        self.fake.models_reply = self._models

    @property
    def base_url(self) -> str:
        return self.fake.base_url

    @property
    def requests(self) -> list[Request]:
        return self.fake.requests

    @property
    def carried(self) -> int:
        return sum(api.carried for api in self._apis)

    def change_key(self) -> None:
        """Encrypt with another key from now on: what was encrypted before is refused."""
        self._apis[1].change_key()

    def will(self, *replies: Reply) -> None:
        self.fake.will(*replies)

    async def __aenter__(self) -> StrictProvider:
        await self.fake.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.fake.__aexit__(*exc_info)

    async def play(self, exchange: Exchange) -> None:
        """Answer one request as the model that it names."""
        try:
            reply = self._reply(exchange.request)
        except Refusal as refusal:
            self.refusals.append(refusal)
            self._say(exchange.request, refusal.status, refusal)
            await status(refusal.status, refusal.body)(exchange)
        else:
            self._say(exchange.request, 200)
            await reply(exchange)

    def _reply(self, request: Request) -> Reply:
        api = next((api for api in self._apis if request.path.partition("?")[0].endswith(api.path)), None)
        if api is None:
            raise Refusal(f"Invalid URL (POST {request.path})", status=404)
        personality = _personality(request.body, api.path)
        api.check(request.body, personality)
        found = api.reply(request.body, personality)
        is_streamed = request.body.get("stream", False)
        if isinstance(api, ChatApi):
            return stream(*found) if is_streamed else document(chat_document(found))
        return responses.stream(*found) if is_streamed else document(found[-1]["response"])

    async def _models(self, exchange: Exchange) -> None:
        await status(200, {"object": "list", "data": [_described(*one) for one in MODELS.items()]})(exchange)

    def _say(self, request: Request, code: int, refusal: Refusal | None = None) -> None:
        line: Json = {"path": request.path, "model": request.body.get("model"), "status": code}
        self.tell(line if refusal is None else line | {"error": str(refusal)})


def _personality(body: Json, path: str) -> Personality:
    """That of the model which the request names; of a fine-tuned one it is its base's."""
    model = body.get("model")
    if not isinstance(model, str):
        raise Refusal("you must provide a model parameter", "model")
    personality = MODELS.get(model)
    if personality is None:
        told = f"The model `{model}` does not exist or you do not have access to it."
        raise Refusal(told, None, "model_not_found", status=404)
    if path not in personality.apis:
        raise Refusal(f"The model `{model}` is not supported in the v1{path} endpoint.", "model", status=404)
    return personality


def _described(name: str, personality: Personality) -> Json:
    model = {"id": name, "object": "model", "created": 1, "owned_by": "tests"}
    return model | ({"shutdown_date": personality.shutdown_date} if personality.shutdown_date else {})


# A process of its own.


@contextlib.asynccontextmanager
async def strict_process(port: int = 0) -> AsyncIterator[str]:
    """A strict provider in a process of its own: its base URL."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.strict.server", "--port", str(port)), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield str(orjson.loads(await process.stdout.readline())["base_url"])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _serve(port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with StrictProvider(port, tell=_print) as provider:
        _print({"base_url": provider.base_url})
        await stop.wait()


def _print(line: Json) -> None:
    print(orjson.dumps(line).decode(), flush=True)  # noqa: T201 - it is a program


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A provider of OpenAI's two APIs that refuses what the real ones do.")
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(_serve(parser.parse_args().port))
