"""What a stranger who clones the repository relies on."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")


class Pin(NamedTuple):
    version: Version
    hashes: list[str]


def pins(lock: str) -> dict[str, Pin]:
    """The entries of a lock file. Each starts at the margin; its hashes and comments are indented."""
    entries = re.split(r"^(?=\w)", (ROOT / lock).read_text("utf-8"), flags=re.MULTILINE)
    found: dict[str, Pin] = {}
    for entry in filter(None, map(str.strip, entries)):
        name, version = re.match(r"(\S+?)==([^\s;]+)", entry).groups()  # type: ignore[union-attr] # a test: fail on it
        found[canonicalize_name(name)] = Pin(Version(version), re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry))
    return found


def wanted(lock: str) -> list[Requirement]:
    """What pyproject.toml asks others for directly; the client's wheel is this checkout's."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    lines = list(pyproject["project"]["dependencies"])
    if lock == "requirements-dev.lock":
        lines += pyproject["dependency-groups"]["dev"]
    return [Requirement(line) for line in lines if not line.startswith("agent-service-client")]


def texts() -> Iterator[tuple[str, str]]:
    """The files that are ours and hold text, without what .gitignore names."""
    left_out = {"build", "dist", "node_modules", "target", "__pycache__", "v1"}
    endings = {"", ".cfg", ".ini", ".json", ".lock", ".md", ".proto", ".py", ".sh", ".sql", ".toml", ".yaml", ".yml"}
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in left_out and (name[0] != "." or name == ".ci")]
        for path in (Path(folder, name) for name in files):
            if path.suffix in endings and path.name not in (".env", ".git"):
                yield str(path.relative_to(ROOT)), path.read_text("utf-8")


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_in_a_lock_carries_its_hashes(lock: str) -> None:
    assert pins(lock)
    assert [name for name, pin in pins(lock).items() if not pin.hashes] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_registry(lock: str) -> None:
    text = (ROOT / lock).read_text("utf-8")

    assert re.findall(r"\S*://\S*|^\s*--(?!hash=)\S+.*|\S+ @ .*", text, flags=re.MULTILINE) == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_what_pyproject_asks_for(lock: str) -> None:
    pinned = pins(lock)
    missing = [
        str(requirement)
        for requirement in wanted(lock)
        if (pin := pinned.get(canonicalize_name(requirement.name))) is None or pin.version not in requirement.specifier
    ]

    assert missing == []


def test_tests_run_on_the_versions_that_a_deployment_installs() -> None:
    deployed, tested = pins("requirements.lock"), pins("requirements-dev.lock")

    assert {name: tested.get(name) for name in deployed} == deployed


def test_no_file_names_a_place_on_one_machine() -> None:
    somebodys_home = re.compile(r"(?<![\w.$}])/(?:(?:home|Users)/\w+|root)/")
    found = {path: somebodys_home.findall(text) for path, text in texts() if not path.startswith("Dockerfile")}

    assert "Makefile" in found
    assert {path: places for path, places in found.items() if places} == {}


def test_the_licence_is_the_one_that_pyproject_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    text = (ROOT / "LICENSE").read_text("utf-8")

    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["LICENSE"]
    assert "Version 2.0, January 2004" in text
    assert "APPENDIX: How to apply the Apache License to your work." in text


@pytest.mark.needs("make")
def test_make_lists_everything_that_can_be_asked_of_it() -> None:
    targets = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert targets
    assert re.findall(r"^  make (\S+) +\w", listed, flags=re.MULTILINE) == " ".join(targets).split()
    assert re.findall(r"^\w.*$", listed, flags=re.MULTILINE) == ["Everyday", "Checks", "Measurements", "Release"]
    assert [line for line in listed.splitlines() if len(line) > 80] == []


def test_every_error_reason_says_where_it_is_met_and_shows_what_it_carries() -> None:
    text = (ROOT / "protos/agent_service/v1/error_reason.proto").read_text("utf-8")
    values = re.findall(r"((?:^ +//.*\n)*)^ +(ERROR_REASON_\w+) = \d+;", text, flags=re.MULTILINE)
    comments = {name: " ".join(comment.replace("//", "").split()) for comment, name in values}

    assert comments
    for name, comment in comments.items():
        example = f'Example: `{{"reason": "{name.removeprefix("ERROR_REASON_")}"'
        travels_in_a_status = re.match(r"[A-Z_]{5,}[.,] ", comment) is not None
        assert (travels_in_a_status and example in comment) or comment.startswith(
            ("Never sent.", "A task's failure", "The error of a tool call.", "The error of a model request.")
        ), f"{name}: {comment or 'no comment'}"
