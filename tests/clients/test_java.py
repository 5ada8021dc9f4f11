"""The Java client's own tests, what its build makes, and the way that its README shows to a first answer."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.e2e.processes import KEY, server_process

ROOT = Path(__file__).parents[2]
JAVA = ROOT / "clients" / "java"
README = (JAVA / "README.md").read_text("utf-8")

pytestmark = [pytest.mark.needs("mvn", "java"), pytest.mark.timeout(600), pytest.mark.together("client-java")]


def readme_commands() -> list[list[str]]:
    """What the README says to run in its second step: change there, build, run an example."""
    steps: list[str] = re.findall(r"^ +```sh\n(.*?)^ +```$", README, flags=re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for line in steps[1].splitlines()]


@pytest.fixture(scope="module")
def built() -> Path:
    """Built once, as the README says, but with its tests."""
    _, build, _ = readme_commands()
    command = [*(word for word in build if word != "-DskipTests"), "--batch-mode"]
    # What was fetched before is not asked for again.
    offline = subprocess.run([*command, "--offline"], cwd=JAVA, capture_output=True)
    if offline.returncode != 0:
        online = subprocess.run(command, cwd=JAVA, capture_output=True, text=True)
        assert online.returncode == 0, online.stdout + online.stderr
    return JAVA / "target"


def test_its_own_tests_pass(built: Path) -> None:
    suites = [ElementTree.parse(path).getroot() for path in (built / "surefire-reports").glob("TEST-*.xml")]

    assert sum(int(suite.attrib["tests"]) for suite in suites) >= 20
    assert {suite.attrib[name] for suite in suites for name in ("failures", "errors", "skipped")} == {"0"}


def test_its_archive_has_the_client_and_the_stubs_and_nothing_else(built: Path) -> None:
    (path,) = built.glob("agent-service-client-*.jar")
    with zipfile.ZipFile(path) as archive:
        packages = {str(Path(name).parent) for name in archive.namelist() if name.endswith(".class")}
        manifest = archive.read("META-INF/MANIFEST.MF").decode()

    assert packages == {"dev/agentservice/client", "dev/agentservice/v1"}
    assert "Automatic-Module-Name: dev.agentservice.client" in manifest


async def test_the_readme_leads_to_a_streamed_answer(built: Path, tmp_path: Path) -> None:
    folder, _, example = readme_commands()
    assert folder == ["cd", "clients/java"]
    async with server_process(tmp_path, API_KEY=KEY) as server:
        environment = {**os.environ, "API_KEY": KEY, "AGENT_SERVICE_TARGET": server.target}
        process = await asyncio.create_subprocess_exec(
            *example, cwd=JAVA, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said = (await process.communicate())[0].decode()

    assert process.returncode == 0, said
    assert "calls calculator" in said
    assert "409.5" in said
