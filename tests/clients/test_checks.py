"""Every client keeps every promise of the scenario, and every example of its README runs."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from tests.e2e.processes import KEY, server_process
from tests.e2e.wire.test_nginx import nginx

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "clients"
# What a client's check needs beside Python.
TOOLCHAINS: Mapping[str, tuple[str, ...]] = {
    "python": (),
    "go": ("go",),
    "typescript": ("node", "npm"),
    "java": ("java", "mvn"),
}
# In one process each: the build of a client writes into its directory.
EACH = [
    pytest.param(language, marks=[pytest.mark.needs(*tools), pytest.mark.together(f"client-{language}")], id=language)
    for language, tools in TOOLCHAINS.items()
    if (CLIENTS / language).exists()
]
# The first run of one builds it, out of packages that it may have to fetch.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """One live server for all of them, and what a check reads of the environment to find it."""
    directory = tmp_path_factory.mktemp("scenario")
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.clients.server", directory], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        assert "listens at" in server.stdout.readline()
        lines = (directory / "environment").read_text().splitlines()
        exported = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        yield dict(os.environ) | {name: shlex.split(value)[0] for name, value in exported.items()}
    finally:
        server.send_signal(signal.SIGTERM)
        # Its restarts were told on stdout.
        server.communicate(timeout=30)
    assert server.returncode == 0


async def checked(language: str, environment: Mapping[str, str], *arguments: str) -> list[str]:
    """What its check prints, having ended well."""
    process = await asyncio.create_subprocess_exec(
        CLIENTS / language / "check",
        *arguments,
        env={"PYTHON": sys.executable, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    broken = re.findall(r"^not ok .*\n(?:  .*\n)*", out.decode(), re.MULTILINE)
    assert process.returncode == 0, "".join(broken) or err.decode()
    return out.decode().splitlines()


def all_ok(names: list[str]) -> list[str]:
    """The lines that are printed where nothing is wrong and nothing left out: the same in every language."""
    return ["TAP version 13", f"1..{len(names)}", *(f"ok {number} - {name}" for number, name in enumerate(names, 1))]


def steps() -> list[str]:
    return [step["step"] for step in yaml.safe_load((CLIENTS / "scenario.yaml").read_text("utf-8"))]


@pytest.mark.parametrize("language", EACH)
async def test_a_client_keeps_every_promise_also_when_the_server_is_restarted(
    language: str, environment: Mapping[str, str]
) -> None:
    assert await checked(language, environment) == all_ok(steps())


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("language", EACH)
async def test_a_client_keeps_them_through_nginx_with_tls(
    language: str, environment: Mapping[str, str], tmp_path: Path
) -> None:
    port = int(environment["AGENT_SERVICE_TARGET"].rpartition(":")[2])
    async with nginx(tmp_path, port) as proxy:
        behind = {"AGENT_SERVICE_TARGET": proxy.target, "AGENT_SERVICE_CA_FILE": str(proxy.tls.ca_file)}
        assert await checked(language, {**environment, **behind}) == all_ok(steps())


@pytest.mark.together("client-python")
async def test_the_blocking_client_keeps_them_too(environment: Mapping[str, str]) -> None:
    assert await checked("python", environment, "--blocking") == all_ok(steps())


@pytest.mark.parametrize("language", EACH)
async def test_the_examples_of_a_readme_run_on_the_server_that_it_starts(language: str, tmp_path: Path) -> None:
    examples = [path.stem.lower() for path in (CLIENTS / language / "examples").iterdir()]
    async with server_process(tmp_path, LLM_PROVIDER="") as server:  # as `make serve` finds it
        shell = {**os.environ, "API_KEY": KEY, "AGENT_SERVICE_TARGET": server.target}
        assert await checked(language, shell, "examples") == all_ok(sorted(examples))


@pytest.mark.together("client-python")
async def test_in_ci_a_step_that_cannot_be_played_is_a_failure(environment: Mapping[str, str]) -> None:
    alone = {name: value for name, value in environment.items() if name != "SCENARIO_RESTART"}

    with pytest.raises(AssertionError, match=r"and is run once\n +---\n +message: .SCENARIO_RESTART is not set"):
        await checked("python", {**alone, "CI": "true"})
