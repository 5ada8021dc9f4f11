"""The wheels of the client and of the service: who has which file, and that the client's is enough for a caller."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from email import message_from_bytes
from email.message import Message
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from tests.clients.test_checks import ROOT, all_ok, checked, environment, steps

__all__ = ["environment"]  # the fixture

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, zipfile.ZipFile]:
    """Both, made of nothing but what the image is made of too; by their name."""
    directory = tmp_path_factory.mktemp("wheels")
    checkout = directory / "checkout"
    for name in ("agent_service", "clients/python"):
        shutil.copytree(
            ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
        )
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    pip(
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(directory),
        str(checkout),
        str(checkout / "clients/python"),
    )
    return {path.name.split("-")[0]: zipfile.ZipFile(path) for path in directory.glob("*.whl")}


def pip(*arguments: str) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr


def description(wheel: zipfile.ZipFile) -> Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return message_from_bytes(wheel.read(name))


def test_no_file_is_in_both_wheels_and_none_is_missing(wheels: Mapping[str, zipfile.ZipFile]) -> None:
    client, service = ({*wheels[name].namelist()} for name in ("agent_service_client", "agent_service"))
    source = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "agent_service").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert client & service == set()
    assert source - client - service == set()
    modules = {name.rsplit("/", 1)[0] for name in client if "dist-info" not in name}
    assert modules == {"agent_service/client", "agent_service/v1"}
    assert {f"{module}/py.typed" for module in modules} <= client


def test_the_service_depends_on_the_client_of_its_own_version(wheels: Mapping[str, zipfile.ZipFile]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]

    assert f"agent-service-client=={version}" in description(wheels["agent_service"]).get_all("Requires-Dist", [])
    assert description(wheels["agent_service_client"])["Version"] == version


def installed(requirement: str, seen: set[str]) -> Iterator[metadata.Distribution]:
    """What a requirement takes, as it is installed for the tests."""
    name = Requirement(requirement).name
    if name in seen:
        return
    seen.add(name)
    distribution = metadata.distribution(name)
    yield distribution
    for further in distribution.requires or ():
        marker = Requirement(further).marker
        if marker is None or marker.evaluate({"extra": ""}):
            yield from installed(further, seen)


@pytest.fixture(scope="module")
def python(wheels: Mapping[str, zipfile.ZipFile], tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that has the client's wheel and what that asks for, and PyYAML, which its check reads with."""
    directory = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    interpreter = str(directory / "bin" / "python")
    pip("--python", interpreter, "install", "--no-deps", "--no-index", str(wheels["agent_service_client"].filename))
    (packages,) = directory.glob("lib/python*/site-packages")
    requires = description(wheels["agent_service_client"]).get_all("Requires-Dist", [])
    seen: set[str] = set()
    for requirement in (*requires, "PyYAML"):
        for distribution in installed(requirement, seen):
            for file in distribution.files or ():
                target = packages / file
                if ".." not in file.parts and not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(str(file.locate()), target)
    assert seen <= {"grpcio", "protobuf", "googleapis-common-protos", "typing-extensions", "PyYAML"}
    return interpreter


def test_nothing_of_the_service_comes_with_it(python: str) -> None:
    alone = subprocess.run(
        [python, "-I", "-c", "import agent_service.client, agent_service.cli"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named 'agent_service.cli'" in alone.stderr


async def test_it_is_enough_for_the_check_and_the_examples(python: str, environment: Mapping[str, str]) -> None:
    environment = {**environment, "PYTHON": python}

    assert await checked("python", environment) == all_ok(steps())
    examples = await checked("python", environment, "examples")
    assert examples[-1] == "ok 8 - tools"
