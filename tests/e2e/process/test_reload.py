"""What changes while the server runs: the configuration on SIGHUP, the keys' file by itself, the provider's health."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from agent_service.client import AsyncClient, CallError
from agent_service.keys import secret
from agent_service.v1.error_reason_pb2 import ERROR_REASON_BUDGET_EXHAUSTED
from tests.e2e.processes import KEY, ServerProcess, server_process
from tests.fakes.provider import FakeProvider, status
from tests.harness import SOON_S

CONFIG = """
models:
  default: {{provider: scripted, script: script.yaml}}
agents:
  assistant: {{model: default, description: {description}}}
rate_limits:
  - {{name: default, max_calls: {calls}}}
"""
SCRIPT = "- match: .*\n  turns: [{{text: {text}}}]\n"


def write(directory: Path, *, description: str = "first", text: str = "one", calls: int = 100) -> None:
    (directory / "script.yaml").write_text(SCRIPT.format(text=text))
    (directory / "config.yaml").write_text(CONFIG.format(description=description, calls=calls))


async def hang_up(server: ServerProcess, event: str) -> None:
    server.log.clear()
    server.process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(SOON_S):
        await server.logged(event)


async def test_sighup_swaps_agents_models_and_limits_in_for_new_tasks(tmp_path: Path) -> None:
    write(tmp_path)
    async with (
        server_process(tmp_path, LLM_PROVIDER="") as server,
        AsyncClient(server.target, api_key=KEY) as client,
    ):
        assert (await client.run("hi")).output == "one"
        write(tmp_path, description="second", text="two", calls=2)
        await hang_up(server, "config_reloaded")
        assert (await client.list_agents())[0].description == "second"
        assert (await client.run("hi")).output == "two"
        with pytest.raises(CallError) as refused:
            await client.run("hi")
        assert refused.value.reason == "RATE_LIMITED_CALLS"


BUDGETED = """
models:
  default: {provider: scripted, script: script.yaml, price: {input: 1, output: 1}}
agents:
  assistant: {model: default, limits: {LIMITS}}
budgets:
  - {name: daily, period: day, max_tokens: TOKENS}
"""


async def test_sighup_swaps_budgets_in_and_what_was_used_before_counts(tmp_path: Path) -> None:
    write(tmp_path)

    def change(tokens: int, limits: str = "turns: 10") -> None:
        text = BUDGETED.replace("TOKENS", str(tokens)).replace("LIMITS", limits)
        (tmp_path / "config.yaml").write_text(text)

    change(1_000_000)
    async with (
        server_process(tmp_path, LLM_PROVIDER="") as server,
        AsyncClient(server.target, api_key=KEY) as client,
    ):
        first = await client.run("hi")
        assert first.usage.cost_nanos > 0
        for limits in ("tokens: 5", "cost: 0.000001"):
            change(1_000_000, limits)
            await hang_up(server, "config_reloaded")
            assert (await client.run("hi")).failure.reason == ERROR_REASON_BUDGET_EXHAUSTED
        change(first.usage.input_tokens + first.usage.output_tokens)
        await hang_up(server, "config_reloaded")
        with pytest.raises(CallError) as refused:
            await client.run("hi")
        assert (refused.value.reason, refused.value.metadata["rule"]) == ("BUDGET_EXHAUSTED", "daily")


async def test_an_invalid_file_is_refused_with_its_problems_and_the_last_good_one_stays(tmp_path: Path) -> None:
    write(tmp_path)
    async with (
        server_process(tmp_path, LLM_PROVIDER="") as server,
        AsyncClient(server.target, api_key=KEY) as client,
    ):
        (tmp_path / "config.yaml").write_text("agents: {assistant: {model: nope}}\n")
        await hang_up(server, "config_refused")
        line = await server.logged("config_refused")
        assert any("'nope' is not a model" in problem for problem in line["problems"])
        assert (await client.run("hi")).output == "one"
        assert await client.health("readiness") == "SERVING"


async def test_a_configuration_that_changes_is_read_again_by_itself_as_kubernetes_changes_it(tmp_path: Path) -> None:
    def mount(version: str) -> None:
        """The file is a link into a folder, which is another link, which is replaced at once."""
        (tmp_path / version).mkdir()
        write(tmp_path / version, text=version)
        (tmp_path / "..new").symlink_to(version)
        (tmp_path / "..new").rename(tmp_path / "..data")

    mount("one")
    (tmp_path / "config.yaml").symlink_to("..data/config.yaml")
    (tmp_path / "script.yaml").symlink_to("..data/script.yaml")
    async with (
        server_process(tmp_path, LLM_PROVIDER="") as server,
        AsyncClient(server.target, api_key=KEY) as client,
    ):
        assert (await client.run("hi")).output == "one"
        mount("two")
        (tmp_path / "two" / "config.yaml").write_text(CONFIG.format(description="second", calls=100))
        async with asyncio.timeout(20):
            await server.logged("config_reloaded")
        assert (await client.run("hi")).output == "two"


async def test_a_keys_file_that_changes_is_read_again_by_itself(tmp_path: Path) -> None:
    first, second = (secret.generate(secret.public_id_of(name)) for name in ("first", "second"))

    def keys_of(**hashes: str) -> str:
        entries = [
            f"  - {{id: {name}, tenant: {name}, hash: '{secret.hash_text(key)}', scopes: [tasks.run], agents: ['*']}}"
            for name, key in hashes.items()
        ]
        return "\n".join(["keys:", *entries, ""])

    (tmp_path / "keys.yaml").write_text(keys_of(first=first))
    async with server_process(tmp_path, API_KEYS_FILE="keys.yaml") as server:
        async with AsyncClient(server.target, api_key=first) as client:
            await client.run("hello")
        (tmp_path / "new.yaml").write_text(keys_of(second=second))
        (tmp_path / "new.yaml").rename(tmp_path / "keys.yaml")
        async with asyncio.timeout(SOON_S):
            await server.logged("keys_reloaded")
        async with AsyncClient(server.target, api_key=second) as client:
            await client.run("hello")
            with pytest.raises(CallError) as refused:
                await client.invoke_tool("echo", {"text": "x"})
            assert (refused.value.code, refused.value.reason) == ("PERMISSION_DENIED", "SCOPE_MISSING")
        async with AsyncClient(server.target, api_key=first) as client:
            with pytest.raises(CallError) as refused:
                await client.run("hello")
            assert refused.value.reason == "API_KEY_INVALID"
        (tmp_path / "keys.yaml").write_text("keys: [")
        async with asyncio.timeout(SOON_S):
            await server.logged("keys_refused")
        async with AsyncClient(server.target, api_key=second) as client:
            await client.run("hello")


PROVIDER_CONFIG = """
models:
  default: {{provider: openai, model_id: m, base_url: {base_url}}}
agents:
  assistant: {{model: default}}
"""


async def ready_after_a_check(directory: Path, code: int, **settings: str) -> tuple[str, str]:
    """Readiness once the provider has answered a check with this status, and the log's words for it."""
    async with FakeProvider() as provider:
        provider.models_reply = status(code)
        (directory / "config.yaml").write_text(PROVIDER_CONFIG.format(base_url=provider.base_url))
        async with (
            server_process(directory, LLM_PROVIDER="", OPENAI_API_KEY="some-key", **settings) as server,
            AsyncClient(server.target, api_key=KEY) as client,
        ):
            async with asyncio.timeout(30):
                await provider.arrived()
                if code == 401 or settings:
                    line = await server.logged("readiness_failing")
                    assert 'agent_service_ready{check="provider"} 0.0' in await server.metrics()
                    return await client.health("readiness"), line["cause"]
            return await client.health("readiness"), ""


async def test_a_provider_that_rejects_our_key_makes_the_server_not_ready(tmp_path: Path) -> None:
    readiness, cause = await ready_after_a_check(tmp_path, 401)
    assert readiness == "NOT_SERVING"
    assert "rejects the key" in cause


async def test_a_provider_that_is_down_does_not_unless_asked_for(tmp_path: Path) -> None:
    assert await ready_after_a_check(tmp_path, 503) == ("SERVING", "")
    readiness, cause = await ready_after_a_check(tmp_path, 503, READINESS_PROVIDER="true")
    assert readiness == "NOT_SERVING"
    assert "cannot be reached" in cause
