"""A project of one's own: installed, begun, extended and run as its pages say, word for word."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sysconfig
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.e2e.pages import Reader
from tests.e2e.processes import command, environment

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"

pytestmark = pytest.mark.timeout(300)


def reader(directory: Path, servers: AsyncExitStack, **settings: str) -> Reader:
    """One who has this checkout's commands on PATH."""
    env = environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", **settings)
    return Reader(directory, env | {"PATH": f"{Path(sysconfig.get_path('scripts'))}:{env['PATH']}"}, servers)


def checkout(directory: Path) -> None:
    """What a package is made of."""
    for name in ("agent_service", "clients/python"):
        unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
        shutil.copytree(ROOT / name, directory / name, ignore=unwanted)
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, directory)


async def test_a_project_is_installed_begun_and_run_as_its_page_says(tmp_path: Path) -> None:
    # What the service and pytest need is found where the tests have it, so that nothing is fetched.
    offline = {
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "PIP_NO_INDEX": "1",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_NO_COMPILE": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # which turns it off: pip reads this one the other way round
    }
    checkout(tmp_path / "agent-service")
    async with AsyncExitStack() as servers:
        one = reader(tmp_path, servers, **offline)
        await one.read((DOCS / "project.md").read_text("utf-8"))
    assert "agent-service" in os.listdir(tmp_path / "shop-env" / "bin"), "it was installed, and not found elsewhere"


async def test_the_readme_of_a_new_project_holds_and_so_does_the_page_about_tools(tmp_path: Path) -> None:
    env = environment()
    assert (await command("init", "shop", cwd=tmp_path, env=env))[0] == 0
    async with AsyncExitStack() as servers:
        one = reader(tmp_path / "shop", servers)
        await one.read((tmp_path / "shop" / "README.md").read_text("utf-8"))
        await one.read((DOCS / "tools.md").read_text("utf-8"))


async def test_nothing_is_overwritten_and_half_a_project_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mine\n")
    code, _, told = await command("init", ".", cwd=tmp_path, env=environment())
    assert code == 2
    assert ". already has config.yaml, and no file is overwritten" in told
    assert os.listdir(tmp_path) == ["config.yaml"]


async def test_a_project_has_a_key_of_its_own_that_only_its_owner_can_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert (await command("init", name, cwd=tmp_path, env=environment()))[0] == 0
    first, second = (
        re.findall(r"^API_KEY=(\w{64})$", (tmp_path / name / ".env").read_text(), re.MULTILINE) for name in "ab"
    )
    assert first != second
    assert stat.S_IMODE((tmp_path / "a" / ".env").stat().st_mode) == 0o600
    assert ".env" in (tmp_path / "a" / ".gitignore").read_text().splitlines()


async def test_its_image_has_what_its_configuration_names_and_starts_with_its_settings(tmp_path: Path) -> None:
    assert (await command("init", "shop", cwd=tmp_path, env=environment()))[0] == 0
    project, image = tmp_path / "shop", tmp_path / "image"
    image.mkdir()
    dockerfile = (project / "Dockerfile").read_text()
    for name in re.findall(r"^COPY (.*) \./$", dockerfile, re.MULTILINE)[0].split():
        shutil.copy(project / name, image)
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert f"FROM agent-service:{version[1]}\n" in dockerfile
    settings = dict(
        line.split("=", 1) for line in (project / ".env").read_text().splitlines() if line[:1] not in ("#", "")
    )
    env = environment(**settings, AGENT_SERVICE_ENV="production", LLM_PROVIDER="scripted")
    assert await command("config", "check", cwd=image, env=env) == (
        0,
        "config.yaml is valid: agents assistant; models default\n",
        "",
    )
