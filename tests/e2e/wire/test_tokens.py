"""Callers with tokens of an identity provider, at a server that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_service.client import AsyncClient, CallError
from tests.e2e.processes import KEY, command, environment, server_process
from tests.fakes.identity_provider import AUDIENCE, IdentityProvider, elliptic, serving


async def test_a_token_runs_tasks_of_its_tenant_beside_keys(tmp_path: Path) -> None:
    async with (
        serving(IdentityProvider()) as provider,
        server_process(tmp_path, JWT_ISSUER=provider.issuer, JWT_AUDIENCE=AUDIENCE) as server,
        AsyncClient(server.target, api_key=KEY) as by_key,
        AsyncClient(server.target, api_key=provider.token(scope="tasks.run tasks.read")) as by_token,
        AsyncClient(server.target, api_key=provider.token(key=elliptic())) as forger,
    ):
        task = await by_token.run("What is 17.5% of 2340?")
        assert "409.5" in task.output
        assert (await by_token.get_task(task.id)).id == task.id

        with pytest.raises(CallError) as hidden:
            await by_key.get_task(task.id)
        with pytest.raises(CallError) as unscoped:
            await by_token.cancel(task.id)
        with pytest.raises(CallError) as forged:
            await forger.run("hello")
        await server.logged("rpc", 5)

    assert [caught.value.reason for caught in (hidden, unscoped, forged)] == [
        "TASK_NOT_FOUND",
        "SCOPE_MISSING",
        "TOKEN_INVALID",
    ]
    assert {line.get("key") for line in server.log if line["event"] == "rpc"} >= {"jwt/alice", "default"}
    assert "eyJ" not in "".join(server.stderr)


async def test_production_may_do_with_tokens_alone(tmp_path: Path) -> None:
    async with serving(IdentityProvider()) as provider:
        tokens = {"JWT_ISSUER": provider.issuer, "JWT_AUDIENCE": AUDIENCE}
        async with (
            server_process(tmp_path, AGENT_SERVICE_ENV="production", API_KEY="", **tokens) as server,
            AsyncClient(server.target, api_key=provider.token()) as client,
        ):
            assert (await client.run("What is 2 + 2?")).output


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"JWT_AUDIENCE": "x"}, "JWT_AUDIENCE: has no effect without JWT_ISSUER"),
        ({"JWT_ISSUER": "https://id.example"}, "JWT_AUDIENCE: must be set if JWT_ISSUER is set"),
        ({"JWT_ISSUER": "id.example"}, "JWT_ISSUER: must be a URL such as https://host/v1"),
        (
            {"JWT_ISSUER": "https://id.example", "JWT_AUDIENCE": "x", "JWT_JWKS": "http://id.example/keys"},
            "JWT_JWKS: must be an https URL, or a file",
        ),
    ],
)
async def test_settings_that_cannot_be_meant_are_told(tmp_path: Path, settings: dict[str, str], problem: str) -> None:
    code, _, err = await command("config", "check", cwd=tmp_path, env=environment(API_KEY=KEY, **settings))

    assert code == 2
    assert problem in err


async def test_a_file_of_keys_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    env = environment(
        API_KEY=KEY,
        JWT_ISSUER="https://id.example",
        JWT_AUDIENCE="x",
        JWT_JWKS="keys.json",
        API_PORT="0",
        METRICS_PORT="0",
        LLM_PROVIDER="scripted",
    )
    code, _, err = await command("serve", cwd=tmp_path, env=env)

    assert code == 2
    assert "JWT_JWKS: keys.json does not exist" in err
