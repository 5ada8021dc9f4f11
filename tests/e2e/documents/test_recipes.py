"""Every command of docs/recipes.md, in its order, prints what the page says."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.processes import KEY, ServerProcess, environment, server_process
from tests.e2e.wire.test_envoy import envoy
from tests.fakes.authority import LOOPBACK, authority
from tests.fakes.identity_provider import AUDIENCE, IdentityProvider, serving

ROOT = Path(__file__).parents[3]
RECIPES = (ROOT / "docs" / "recipes.md").read_text("utf-8")
# A block of commands, and the sentence that says what they print.
RECIPE = re.compile(r"```sh\n(?P<commands>.*?)```\n\nprints (?P<told>.*?)\.(?:\s|$)", re.DOTALL)

pytestmark = [pytest.mark.needs("grpcurl", "grpc-health-probe", "envoy", "curl"), pytest.mark.timeout(180)]


def recipes() -> list[tuple[str, list[str]]]:
    found = [(match["commands"], re.findall(r"`([^`]+)`", match["told"])) for match in RECIPE.finditer(RECIPES)]
    assert len(found) == RECIPES.count("```sh"), "every block says what it prints"
    return found


async def shell(script: str, cwd: Path, env: dict[str, str]) -> str:
    """What bash prints; whatever fails ends it."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script),
        cwd=cwd,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


@asynccontextmanager
async def places(directory: Path) -> AsyncIterator[tuple[dict[str, str], dict[str, str]]]:
    """What the page's addresses stand for, and the variables that its commands use; its files lie in `directory`."""
    authority().write(directory)
    authority().issue("client.example").write(directory, "client")
    certificate, key = authority().issue(*LOOPBACK).write(directory, "server")
    world = {"LLM_PROVIDER": ""}  # as `make serve` finds it: no configuration, no provider
    tls = {"TLS_CERT_FILE": str(certificate), "TLS_KEY_FILE": str(key)}
    for name in ("protos", "buf.yaml"):
        (directory / name).symlink_to(ROOT / name)
    for name in ("build", "closed", "secured", "mutual"):
        (directory / name).mkdir()

    async with serving(IdentityProvider()) as issuer, AsyncExitStack() as stack:

        def start(name: str, **settings: str) -> Awaitable[ServerProcess]:
            return stack.enter_async_context(server_process(directory / name, **world, **settings))

        server, closed, secured, mutual = await asyncio.gather(
            start("", JWT_ISSUER=issuer.issuer, JWT_AUDIENCE=AUDIENCE),
            start("closed", REFLECTION_ENABLED="false"),
            start("secured", **tls),
            start("mutual", **tls, TLS_CLIENT_CA_FILE=str(directory / "ca.pem")),
        )
        proxy = await stack.enter_async_context(envoy(directory, server.port))
        (directory / "build" / "agent_service.binpb").symlink_to(directory / "agent_service.binpb")
        yield (
            {
                "localhost:9000": server.target,
                "localhost:9001": closed.target,
                "localhost:9443": secured.target,
                "localhost:9444": mutual.target,
                "localhost:8080": proxy,
            },
            {"API_KEY": KEY, "TOKEN": issuer.token()},
        )


async def test_every_recipe_prints_what_the_page_says(tmp_path: Path) -> None:
    found = recipes()
    script = "".join(f"{commands}\necho '=== next'\n" for commands, _ in found)
    path = f"{ROOT / '.tools' / 'bin'}:{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
    async with places(tmp_path) as (addresses, variables):
        for place, real in addresses.items():
            assert place in script
            script = script.replace(place, real)
        printed = (await shell(script, tmp_path, environment(**variables) | {"PATH": path})).split("=== next\n")

    missing = [
        f"{told} in {shown[-300:]}"
        for (_, fragments), shown in zip(found, printed, strict=False)
        for told in fragments
        if told not in shown
    ]
    assert missing == []
    assert len(found) > 20
