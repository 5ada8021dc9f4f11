"""The TypeScript client by itself: generated, compiled, tested and packed as it says."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "clients" / "typescript"

needs_node = pytest.mark.needs("node", "npm")
# Whichever comes first installs what the lock names.
pytestmark = [pytest.mark.timeout(600), pytest.mark.together("client-typescript")]


def run(*command: str) -> str:
    """What it prints; it must succeed."""
    done = subprocess.run(command, cwd=CLIENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_node
@pytest.mark.needs("openssl")
def test_it_compiles_and_its_own_tests_pass() -> None:
    told = run("npm", "test", "--silent")
    assert int(re.findall(r"# pass (\d+)", told)[-1]) > 20


@needs_node
def test_its_stubs_are_what_the_protos_generate() -> None:
    run("./generate", "--check")


@needs_node
def test_it_is_formatted() -> None:
    run("./build")
    run("node_modules/.bin/prettier", "--check", ".")


@needs_node
def test_its_package_holds_the_library_with_its_types_and_nothing_else() -> None:
    (packed,) = json.loads(run("npm", "pack", "--dry-run", "--json", "--silent").removeprefix("\n"))
    paths = {file["path"] for file in packed["files"]}
    library = {path for path in paths if re.fullmatch(r"dist/src/[\w/]+\.(?:js|d\.ts)", path)}

    assert {"dist/src/index.js", "dist/src/index.d.ts", "dist/src/client.js"} <= library
    assert paths - library == {"LICENSE", "README.md", "package.json"}


def test_its_lock_names_no_registry_and_carries_every_hash() -> None:
    packages = json.loads((CLIENT / "package-lock.json").read_text("utf-8"))["packages"]
    del packages[""]

    assert packages
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if not package["integrity"].startswith("sha512-")] == []


def test_its_readme_shows_the_examples_that_its_check_runs() -> None:
    text = (CLIENT / "README.md").read_text("utf-8")
    shown = [
        re.sub(f"^{indent}", "", block, flags=re.MULTILINE)
        for indent, block in re.findall(r"^( *)```(?:js|ts)\n(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL)
    ]
    examples = [path.read_text("utf-8") for path in (CLIENT / "examples").glob("*.mjs")]

    assert sorted(shown) == sorted(examples)
