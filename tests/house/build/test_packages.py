"""The packages say what their registries ask for, and take what they share out of pyproject.toml."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[3]
CLIENTS = ROOT / "clients"
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = SETTINGS["project"]
REPOSITORY = PROJECT["urls"]["Repository"]
WITH_OTHERS = {"clients/go/internal/go.sum", "clients/typescript/package-lock.json"}  # another package has it too
POM = {"": "http://maven.apache.org/POM/4.0.0"}


def package_metadata(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "package_metadata.py"), *arguments, str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def pyproject(of: str) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / of / "pyproject.toml").read_text("utf-8"))["project"]
    return found


def test_every_package_has_the_version_and_addresses_of_pyproject() -> None:
    checked = package_metadata(ROOT, "--check")
    assert checked.stdout + checked.stderr == ""
    assert checked.returncode == 0


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that name an address, elsewhere."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    for name in filter(None, tracked.split("\0")):
        if name.startswith(("clients/", "protos/", "deploy/helm/", "docs/")) or "/" not in name:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.needs("git")
def test_an_address_and_a_version_are_changed_in_one_place(copy: Path) -> None:
    text = (copy / "pyproject.toml").read_text("utf-8")
    text = text.replace(f'Repository = "{REPOSITORY}"', 'Repository = "https://forge.example.net/us/it"')
    text = text.replace(f'\nversion = "{PROJECT["version"]}"', '\nversion = "7.8.9"')
    text = text.replace(SETTINGS["tool"]["packages"]["go-module"], "forge.example.net/us/it/clients/go")
    (copy / "pyproject.toml").write_text(text, "utf-8")

    assert package_metadata(copy, "--check").returncode == 1
    assert package_metadata(copy).returncode == 0
    assert package_metadata(copy, "--check").returncode == 0
    texts = {
        str(path.relative_to(copy)): path.read_text("utf-8")
        for path in copy.rglob("*")
        if path.is_file() and path.suffix not in {".binpb", ".png"} and "agentservicev1" not in path.parts
    }
    assert [name for name, text in texts.items() if REPOSITORY in text] == []
    module = re.compile(re.escape(SETTINGS["tool"]["packages"]["go-module"]) + r"\b")
    assert [name for name, text in texts.items() if module.search(text) and not name.startswith("docs/")] == []
    old = re.compile(rf"(?<![\w.]){re.escape(PROJECT['version'])}(?![\w.])")
    names = [name for name, text in texts.items() if old.search(text) and not name.endswith(".lock")]
    assert set(names) <= {"CHANGELOG.md", "docs/releasing.md", "docs/adr/0005-names-and-defaults.md", *WITH_OTHERS}


@pytest.mark.parametrize("of", [".", "clients/python"])
def test_a_python_package_says_what_people_look_for(of: str) -> None:
    project = pyproject(of)

    assert {"Repository", "Documentation", "Changelog", "Issues"} <= project["urls"].keys()
    assert {"Intended Audience :: Developers", "Typing :: Typed"} <= {*project["classifiers"]}
    assert (
        "Programming Language :: Python :: " + project["requires-python"].removeprefix(">=") in project["classifiers"]
    )
    assert project["readme"] == "README.md"
    assert project["license"] == "Apache-2.0"
    assert project["keywords"]


@pytest.mark.parametrize("client", ["go", "python"])
def test_a_client_that_is_packed_from_its_folder_has_the_licence(client: str) -> None:
    assert (CLIENTS / client / "LICENSE").read_text("utf-8") == (ROOT / "LICENSE").read_text("utf-8")


def test_the_npm_package_names_its_types_its_home_and_its_source() -> None:
    package = json.loads((CLIENTS / "typescript" / "package.json").read_text("utf-8"))

    assert package["exports"]["./package.json"] == "./package.json"
    assert [*package["exports"]["."]] == ["types", "default"]  # in this order: the first that fits is taken
    assert package["repository"]["directory"] == "clients/typescript"
    assert {"homepage", "bugs", "keywords", "license", "engines", "description"} <= package.keys()


def test_the_maven_artifact_has_what_central_asks_for() -> None:
    pom = ElementTree.parse(CLIENTS / "java" / "pom.xml").getroot()
    for asked in ("name", "description", "url", "licenses/license/url", "developers/developer/name", "scm/connection"):
        assert pom.findtext(asked, namespaces=POM), asked
    release = next(
        found for found in pom.iterfind("profiles/profile", POM) if found.findtext("id", None, POM) == "release"
    )
    plugins = {plugin.findtext("artifactId", None, POM) for plugin in release.iterfind("build/plugins/plugin", POM)}

    assert {"maven-source-plugin", "maven-javadoc-plugin", "maven-gpg-plugin"} <= plugins
