"""A real gateway between the service and its provider: LiteLLM's proxy, before the strict provider.

    make test-litellm

Not a part of `make test`: the proxy takes 600 MB of packages of its own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED
from tests.e2e.strict import ASKED, Model, asking, carries, noted
from tests.fakes import responses
from tests.fakes.ports import free_port
from tests.fakes.provider import Exchange, Reply, cut_stream, status, text
from tests.fakes.strict.server import StrictProvider

# It renames the field `reasoning` of what it takes for an OpenAI model, which OpenRouter's own adapter of it would not.
RENAMED = ("openrouter-kimi",)
MODELS = [model for model in ASKED if model.model_id not in RENAMED]
OVER_CHAT = next(model for model in MODELS if model.model_id == "plain-1")
OVER_RESPONSES = next(model for model in MODELS if (model.model_id, model.api) == ("gpt-5.6-strict", "responses"))
START_S = 120.0
CONFIG = """
model_list:
  - model_name: "*"
    litellm_params: {{model: "openai/*", api_base: "http://127.0.0.1:{port}/v1", api_key: sk-of-the-provider}}
litellm_settings: {{num_retries: 0}}
router_settings: {{num_retries: 0, disable_cooldowns: true}}
general_settings: {{master_key: {key}}}
"""
KEY = "sk-of-the-gateway"


@dataclass(frozen=True, slots=True)
class Gateway:
    """The proxy: its base URL, and the port at which it looks for the provider."""

    base_url: str
    provider_port: int


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("litellm")
    port, provider_port = free_port(), free_port()
    (directory / "config.yaml").write_text(CONFIG.format(port=provider_port, key=KEY))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "NO_PROXY": "127.0.0.1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it fetches one
    }
    program = [os.environ["LITELLM"], "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*program, "--telemetry", "False"], cwd=directory, env=environment, stdout=log, stderr=log
        )
        try:
            _wait(f"http://127.0.0.1:{port}/health/liveliness", process)
            yield Gateway(f"http://127.0.0.1:{port}/v1", provider_port)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < until:
        assert process.poll() is None, "the proxy has ended"
        try:
            opener.open(url, timeout=5).close()
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
        else:
            return
    raise AssertionError("the proxy does not start")


@pytest.fixture
async def provider(gateway: Gateway) -> AsyncIterator[StrictProvider]:
    async with StrictProvider(gateway.provider_port) as provider:
        yield provider


@pytest.mark.timeout(300)
async def test_tools_over_both_apis_with_every_model(
    tmp_path: Path, gateway: Gateway, provider: StrictProvider
) -> None:
    async with asking(tmp_path, provider, *MODELS, base_url=gateway.base_url, OPENAI_API_KEY=KEY) as asked:
        for model in MODELS:
            before = provider.carried
            assert (model, await asked.run(model.name, "3 turns of 2 calls")) == (model, noted(3, 2))
            assert (model, sorted(asked.take_notes())) == (model, [1, 2, 3, 4, 5, 6])
            assert (model, provider.carried - before) == (model, 6 if carries(model) else 0)


def cut(model: Model) -> Reply:
    if model.api == "chat":
        return cut_stream(text("I was inter"))
    return responses.cut_stream(*responses.events(responses.message("msg_1", "I was interrupted"))[:6])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("model", [OVER_CHAT, OVER_RESPONSES], ids=["chat", "responses"])
async def test_a_cut_stream_and_an_overload_are_asked_again(
    tmp_path: Path, gateway: Gateway, provider: StrictProvider, model: Model
) -> None:
    async with asking(tmp_path, provider, model, base_url=gateway.base_url, OPENAI_API_KEY=KEY) as asked:
        for fault in (cut(model), status(503)):
            provider.will(provider.play, fault)
            assert await asked.run(model.name, "2 turns") == noted(2)
            assert asked.take_notes() == [1, 2]
        outcomes = [line["outcome"] for line in asked.server.log if line["event"] == "model_request"]
    assert outcomes.count("LLM_UNAVAILABLE") == 2


@pytest.mark.timeout(300)
@pytest.mark.parametrize("model", [OVER_CHAT, OVER_RESPONSES], ids=["chat", "responses"])
async def test_the_wait_of_a_provider_at_its_limit_is_kept(
    tmp_path: Path, gateway: Gateway, provider: StrictProvider, model: Model
) -> None:
    asked_at: list[float] = []
    limit = {"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}}

    def timed(reply: Reply) -> Reply:
        async def answer(exchange: Exchange) -> None:
            asked_at.append(asyncio.get_running_loop().time())
            await reply(exchange)

        return answer

    provider.will(timed(status(429, limit, headers={"retry-after": "3"})), timed(provider.play))
    async with asking(tmp_path, provider, model, base_url=gateway.base_url, OPENAI_API_KEY=KEY) as asked:
        assert await asked.run(model.name, "no tools") == "fine"
    assert asked_at[1] - asked_at[0] >= 3.0


@pytest.mark.timeout(300)
async def test_a_key_that_changes_costs_the_reasoning_and_not_the_task(
    tmp_path: Path, gateway: Gateway, provider: StrictProvider
) -> None:
    async def changes_its_key(exchange: Exchange) -> None:
        provider.change_key()
        await provider.play(exchange)

    provider.will(provider.play, provider.play, changes_its_key)
    async with asking(tmp_path, provider, OVER_RESPONSES, base_url=gateway.base_url, OPENAI_API_KEY=KEY) as asked:
        task = await asked.client.run("4 turns", agent=OVER_RESPONSES.name)
        assert (task.state, task.output) == (TASK_STATE_COMPLETED, noted(4))
    assert [refusal.code for refusal in provider.refusals] == ["invalid_encrypted_content"]
