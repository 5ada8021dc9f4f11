"""Writes what all packages share into each of them: the version, the repository's address, the path of the Go module.

They are set in pyproject.toml: `version`, `Repository` of `[project.urls]`, `go-module` of `[tool.packages]`.

usage: package_metadata.py [--check] [ROOT]      --check: write nothing; fail, naming the places that differ
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Place(NamedTuple):
    """Every match of `pattern` in the file has `value` where its one group is."""

    path: str
    pattern: str
    value: str


class Shared(NamedTuple):
    """What is set once."""

    version: str
    repository: str
    go_module: str

    @classmethod
    def of(cls, root: Path) -> Shared:
        """As pyproject.toml says."""
        settings = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
        project = settings["project"]
        return cls(project["version"], project["urls"]["Repository"], settings["tool"]["packages"]["go-module"])


def places(shared: Shared) -> Iterator[Place]:
    """Where a version or an address is written down, except the Go module's path."""
    version, repository, _ = shared
    for path, pattern in (
        ("pyproject.toml", r'"agent-service-client==([^"]+)"'),
        ("clients/python/pyproject.toml", r'(?m)^version = "(.+)"'),
        ("clients/typescript/package.json", r'(?m)^  "version": "(.+)"'),
        ("clients/typescript/package-lock.json", r'"name": "agent-service-client",\n +"version": "(.+)"'),
        ("clients/java/pom.xml", r"<artifactId>agent-service-client</artifactId>\n  <version>(.+)</version>"),
        ("clients/java/README.md", r"<artifactId>agent-service-client</artifactId>\n  <version>(.+)</version>"),
        ("clients/go/client.go", r'const Version = "(.+)"'),
        ("Dockerfile", r'image\.version="(.+?)"'),
        ("compose.yaml", r"image: agent-service:(\S+)"),
        ("docs/container.md", r" agent-service:(\d\S+)"),
        ("clients/java/src/test/java/dev/agentservice/client/ReadmeTest.java", r'"  <version>(.+)</version>"'),
        ("deploy/helm/agent-service/Chart.yaml", r"(?m)^(?:version|appVersion): (.+)$"),
        ("deploy/helm/agent-service/values.yaml", r"registry\.example/agent-service:([\d.]+)"),
        ("README.md", r"(?m)^Version ([\d.]+), "),
        ("docs/kubernetes.md", r"registry\.example/agent-service:([\d.]+)"),
        ("docs/adr/0005-names-and-defaults.md", r'pyproject\.toml: version = "(.+?)"'),
    ):
        yield Place(path, pattern, version)
    for name, address in addresses(repository).items():
        for path in ("pyproject.toml", "clients/python/pyproject.toml"):
            yield Place(path, rf'(?m)^{name} = "(https:[^"]+)"', address)
    for path, pattern, address in (
        ("clients/typescript/package.json", r'"homepage": "(.+)"', f"{repository}#readme"),
        ("clients/typescript/package.json", r'"url": "git\+(https:.+)\.git"', repository),
        ("clients/typescript/package.json", r'"bugs": "(.+)"', f"{repository}/issues"),
        ("clients/java/pom.xml", r"(?m)^  <url>(.+)</url>", repository),
        ("clients/java/pom.xml", r"<organizationUrl>(.+)</organizationUrl>", repository),
        ("clients/java/pom.xml", r"(?s)<scm>\n +<url>(.+?)</url>", repository),
        ("clients/java/pom.xml", r"<(?:developerC|c)onnection>scm:git:(.+)\.git</", repository),
        ("clients/java/pom.xml", r"(?s)<issueManagement>\n +<url>(.+?)</url>", f"{repository}/issues"),
        ("deploy/helm/agent-service/Chart.yaml", r"(?m)^home: (.+)$", repository),
        ("Dockerfile", r'image\.source="(.+?)"', repository),
        ("SECURITY.md", r"<(https:.+/security/advisories/new)>", f"{repository}/security/advisories/new"),
    ):
        yield Place(path, pattern, address)


def addresses(repository: str) -> dict[str, str]:
    """`project.urls` of the packages for Python."""
    return {
        "Repository": repository,
        "Documentation": f"{repository}/tree/main/docs",
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }


def with_value(text: str, place: Place) -> str:
    """The text with the value in its place; an error where the place is gone."""
    found = list(re.finditer(place.pattern, text))
    if not found:
        raise ValueError(f"{place.path}: nothing is like {place.pattern}")
    for match in reversed(found):
        text = text[: match.start(1)] + place.value + text[match.end(1) :]
    return text


def go_files(root: Path) -> Iterator[Path]:
    """What names the Go module and is written by hand; `make generate` writes the rest."""
    for path in sorted((root / "clients" / "go").rglob("*")):
        if path.is_file() and "agentservicev1" not in path.relative_to(root).parts:
            yield path
    yield from sorted((root / "protos").rglob("*.proto"))
    yield root / "clients" / "README.md"


def changes(root: Path) -> dict[Path, str]:
    """The files that are not as they should be, as they should be."""
    shared = Shared.of(root)
    texts: dict[Path, str] = {}
    for place in places(shared):
        path = root / place.path
        texts[path] = with_value(texts.get(path) or path.read_text("utf-8"), place)
    module = re.search(r"^module (\S+)", (root / "clients/go/go.mod").read_text("utf-8"), flags=re.MULTILINE)
    if module is None:
        raise ValueError("clients/go/go.mod: names no module")
    for path in go_files(root):
        texts[path] = (texts.get(path) or path.read_text("utf-8")).replace(module[1], shared.go_module)
    return {path: text for path, text in texts.items() if text != path.read_text("utf-8")}


def main(arguments: list[str]) -> int:
    """1 where something differs and is only to be checked."""
    check = "--check" in arguments
    root = Path(next((word for word in arguments if word != "--check"), Path(__file__).parents[1]))
    differing = changes(root)
    for path, text in differing.items():
        print(
            f"{path.relative_to(root)} {'differs from pyproject.toml: make package-metadata' if check else 'written'}"
        )
        if not check:
            path.write_text(text, "utf-8")
    if not check and any(path.suffix == ".proto" for path in differing):
        print("The path of the Go module is another: run make generate, and see docs/releasing.md.")
    return 1 if check and differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
