"""A fake provider and models that ask it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import fields
from typing import Any

import httpcore2
import pytest

from agent_service.llm.openai.endpoint import openai_endpoint
from agent_service.llm.openai.model import OpenAIModel
from agent_service.llm.openai.request_settings import Api, RequestSettings
from tests.fakes.provider import FakeProvider
from tests.llm.observer import RecordingObserver

MakeModel = Callable[..., OpenAIModel]
_REQUEST_SETTINGS = {field.name for field in fields(RequestSettings)}


@pytest.fixture(autouse=True, scope="session")
def one_tls_context() -> Iterator[None]:
    """Nothing here speaks TLS, and every client takes 40 ms to read the system's certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpcore2, "default_ssl_context", lambda **_: context)
        yield


@pytest.fixture
def observer() -> RecordingObserver:
    return RecordingObserver()


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeProvider]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture
async def make_model(provider: FakeProvider) -> AsyncIterator[MakeModel]:
    """Makes models of the fake provider, and closes them."""
    async with AsyncExitStack() as models:

        def make(**settings: Any) -> OpenAIModel:
            endpoint = openai_endpoint(
                settings.pop("base_url", provider.base_url),
                settings.pop("api_key", "sk-test"),
                settings.pop("headers", {}),
                api=settings.get("api", Api.CHAT),
            )
            request = {name: settings.pop(name) for name in _REQUEST_SETTINGS & settings.keys()}
            given = RequestSettings(**{"model_id": "gpt-4", **request})
            model = OpenAIModel(**{"settings": given, "endpoint": endpoint, **settings})
            models.push_async_callback(model.aclose)
            return model

        yield make


@pytest.fixture
def model(make_model: MakeModel) -> OpenAIModel:
    return make_model()
