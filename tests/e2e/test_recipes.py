"""Every command of docs/recipes.md, in its order, prints what the page says."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from tests.e2e.processes import KEY, environment, server_process
from tests.e2e.test_envoy import envoy
from tests.fakes.authority import LOOPBACK, authority

ROOT = Path(__file__).parents[2]
RECIPES = (ROOT / "docs" / "recipes.md").read_text("utf-8")
WORLD = ROOT / "clients" / "scenario"
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


async def test_every_recipe_prints_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(authority().pem)
    certificate, key = authority().issue(*LOOPBACK).write(tmp_path, "server")
    world = {"AGENT_SERVICE_CONFIG_PATH": str(WORLD / "config.yaml"), "PYTHONPATH": str(WORLD), "LLM_PROVIDER": ""}
    (tmp_path / "tls").mkdir()
    tls = {"TLS_CERT_FILE": str(certificate), "TLS_KEY_FILE": str(key)}
    for name in ("protos", "buf.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    async with (
        server_process(tmp_path, **world) as server,
        server_process(tmp_path / "tls", **world, **tls) as secured,
        envoy(tmp_path, server.port) as proxy,
    ):
        (tmp_path / "build").mkdir()
        (tmp_path / "build" / "agent_service.binpb").symlink_to(tmp_path / "agent_service.binpb")
        places = {
            "localhost:9000": server.target,
            "localhost:9443": f"localhost:{secured.port}",
            "localhost:8080": proxy,
        }
        path = f"{ROOT / '.tools' / 'bin'}:{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
        env = environment(API_KEY=KEY) | {"PATH": path}
        script, expected = "", []
        for commands, told in recipes():
            script += f"{commands}\necho '=== next'\n"
            expected.append(told)
        for place, real in places.items():
            script = script.replace(place, real)
        printed = (await shell(script, tmp_path, env)).split("=== next\n")

    missing = [
        f"{told} in {shown[-300:]}"
        for fragments, shown in zip(expected, printed, strict=False)
        for told in fragments
        if told not in shown
    ]
    assert missing == []
    assert len(expected) > 15
