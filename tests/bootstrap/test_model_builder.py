"""What configured models share, and what they keep when the configuration is read again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from agent_service.bootstrap.models import ModelBuilder
from agent_service.config.loader import Config, load
from agent_service.llm.openai.model import OpenAIModel

FILE = """
models:
  a: {{provider: openai, model_id: x, fallbacks: [{fallbacks}]}}
  b: {{provider: openai, model_id: x, temperature: 0.9, max_tokens: {max_tokens}}}
  c: {{provider: openai, model_id: x, base_url: 'http://localhost:1/v1', headers_env: {{x-key: GATEWAY_KEY}}}}
agents: {{one: {{model: a}}}}
"""


@pytest.fixture
async def builder() -> AsyncIterator[ModelBuilder]:
    async with AsyncExitStack() as stack:
        yield ModelBuilder(stack)


def config(
    directory: Path, *, fallbacks: str = "b", max_tokens: int = 10, gateway_key: str = "k1", head: str = ""
) -> Config:
    path = directory / "config.yaml"
    path.write_text(head + FILE.format(fallbacks=fallbacks, max_tokens=max_tokens))
    environ = {"AGENT_SERVICE_CONFIG_PATH": str(path), "OPENAI_API_KEY": "sk-real", "GATEWAY_KEY": gateway_key}
    return load(environ, dotenv_path=None)


async def test_the_same_model_of_the_same_provider_has_one_budget_and_one_breaker(
    builder: ModelBuilder, tmp_path: Path
) -> None:
    await builder.build(config(tmp_path))
    assert builder.upstreams["a"] is builder.upstreams["b"]
    assert builder.upstreams["c"].breaker is not builder.upstreams["a"].breaker


async def test_a_model_knows_its_fallbacks_and_what_each_may_write(builder: ModelBuilder, tmp_path: Path) -> None:
    models = await builder.build(config(tmp_path, fallbacks="c, b"))
    assert [one.key for one in models["a"].fallbacks] == ["c", "b"]
    assert [models["a"].of(key).tokens_max for key in ("a", "b", "c", "gone")] == [16_384, 10, 4096, 16_384]
    assert not models["b"].fallbacks


async def test_what_is_sent_leaves_room_for_the_reply_of_whichever_model_of_a_chain_is_asked(
    builder: ModelBuilder, tmp_path: Path
) -> None:
    models = await builder.build(config(tmp_path, fallbacks="b, c"))
    room = {key: models[key].context_tokens - models[key].tokens_max for key in ("a", "b", "c")}
    assert room == {"a": 32_768 - 4096, "b": 272_000 - 10, "c": 32_768 - 4096}


async def test_reading_again_keeps_connections_and_what_is_known_of_a_providers_health(
    builder: ModelBuilder, tmp_path: Path
) -> None:
    await builder.build(config(tmp_path))
    asks, upstreams = builder.asks, builder.upstreams
    await builder.build(config(tmp_path, fallbacks="c", max_tokens=20, gateway_key="k2"))
    assert builder.asks["a"] == asks["a"]
    assert builder.asks["b"] != asks["b"]
    assert builder.asks["c"] != asks["c"]  # a header has changed, though the file has not
    assert builder.upstreams == upstreams


async def test_a_refused_setting_is_told_with_its_model_and_by_the_lines_of_the_newest_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[dict[str, Any]] = []

    class Recorded(OpenAIModel):
        def __init__(self, **given: Any) -> None:
            built.append(given)
            super().__init__(**given)

    monkeypatch.setattr("agent_service.llm.openai.model.OpenAIModel", Recorded)
    refused: list[tuple[str, str, str]] = []
    async with AsyncExitStack() as stack:
        builder = ModelBuilder(stack, on_refused=lambda *told: refused.append(told))
        await builder.build(config(tmp_path))
        await builder.build(config(tmp_path, head="# a line more\n"))
    a, b, c = built
    b["on_refused"]("temperature", "the provider answered 400")
    assert refused == [("b", "temperature", "the provider answered 400")]
    assert b["places"]["temperature"] == f"{tmp_path}/config.yaml:5 models.b.temperature"
    assert a["settings"].model_id == c["settings"].model_id == "x"
