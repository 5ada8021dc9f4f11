"""`make release-check`: builds every package from a clean tree, installs each into a fresh project and calls a server.

The tree is that of the last commit. The server is the installed package of the service. What each client's project runs
is the first code of the client's README. Needs a network, and the toolchain of each language; a language without its
toolchain is named, and fails the check where CI is set.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from tests.support.server_process import running_server

ROOT = Path(__file__).parents[1]
TASK_OUTPUT = "409.5"
TWINE = "7.0.0"


def run(*command: object, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """What it prints; it must succeed."""
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def first_code(readme: Path, language: str) -> str:
    """The first block of code of a README, as a reader copies it."""
    found = re.search(rf"^( *)```{language}\n(.*?)^ *```$", readme.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    if found is None:
        raise RuntimeError(f"{readme} shows no {language}")
    return textwrap.dedent(found[2])


class Release:
    """A clean tree, what is built from it, and the projects that try it."""

    def __init__(self, directory: Path) -> None:
        self.tree = directory / "tree"
        self.built = directory / "built"
        self.directory = directory
        run("git", "archive", "--output", directory / "tree.tar", "HEAD", cwd=ROOT)
        with tarfile.open(directory / "tree.tar") as files:
            files.extractall(self.tree, filter="data")
        settings = tomllib.loads((self.tree / "pyproject.toml").read_text("utf-8"))
        self.version: str = settings["project"]["version"]
        self.repository: str = settings["project"]["urls"]["Repository"]
        self.go_module: str = settings["tool"]["packages"]["go-module"]
        self.served: dict[str, str] = {}

    def project(self, name: str) -> Path:
        """A fresh directory."""
        made = self.directory / name
        made.mkdir(parents=True)
        return made

    def called(self, *command: object, cwd: Path) -> None:
        """Run a caller of the server; it must print the task's answer."""
        printed = run(*command, cwd=cwd, env=self.served)
        if TASK_OUTPUT not in printed:
            raise RuntimeError(f"{' '.join(map(str, command))} printed no {TASK_OUTPUT}:\n{printed}")

    # Python

    def build_python(self) -> str:
        """Sdists of the service and of its client, and wheels out of these sdists."""
        out = self.project("built/python")
        for name, source in (
            ("agent-service-client", self._python_client()),
            ("agent-service", self._python_service()),
        ):
            backend = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"
            run(sys.executable, "-c", backend, "build_sdist", out, cwd=source)
            unpacked = self.project(f"unpacked-{name}")
            with tarfile.open(out / f"{name.replace('-', '_')}-{self.version}.tar.gz") as files:
                files.extractall(unpacked, filter="data")
            (inside,) = unpacked.iterdir()
            run(sys.executable, "-c", backend, "build_wheel", out, cwd=inside)
        twine = ("sh", ROOT / "scripts" / "python-tool", "twine", TWINE, "twine")
        run(*twine, "check", "--strict", *sorted(out.iterdir()), cwd=ROOT)
        return f"{', '.join(sorted(path.name for path in out.iterdir()))}; twine check passed"

    def _python_client(self) -> Path:
        """Its code stands in the tree of the service; a sdist holds what lies beside its pyproject.toml."""
        source = self.directory / "client"
        shutil.copytree(self.tree / "clients" / "python", source)
        for package in ("client", "v1"):
            shutil.copytree(self.tree / "agent_service" / package, source / "agent_service" / package)
        settings = (source / "pyproject.toml").read_text("utf-8")
        (source / "pyproject.toml").write_text(re.sub(r"(?m)^package-dir = .*\n", "", settings), "utf-8")
        self._absolute_links(source / "README.md", "clients/python")
        return source

    def _python_service(self) -> Path:
        self._absolute_links(self.tree / "README.md", "")
        return self.tree

    def _absolute_links(self, readme: Path, folder: str) -> None:
        """PyPI shows a README beside no repository."""

        def absolute(link: re.Match[str]) -> str:
            path = os.path.normpath(os.path.join(folder, link[2]))
            kind = "raw" if link[1].startswith("!") else "blob"
            return f"{link[1]}({self.repository}/{kind}/v{self.version}/{path})"

        text = readme.read_text("utf-8")
        readme.write_text(re.sub(r"(!?\[[^\]]*\])\((?![a-z]+:|#)([^)\s]+)\)", absolute, text), "utf-8")

    def install_service(self) -> Path:
        """The command of the installed package."""
        return self._installed("service-project", "agent-service") / "agent-service"

    def try_python(self) -> None:
        """A project that has the client alone."""
        binaries = self._installed("python-project", "agent-service-client")
        project = binaries.parents[1]
        (project / "stream.py").write_text(first_code(self.tree / "clients/python/README.md", "python"), "utf-8")
        self.called(binaries / "python", "stream.py", cwd=project)

    def _installed(self, name: str, package: str) -> Path:
        project = self.project(name)
        run(sys.executable, "-m", "venv", "venv", cwd=project)
        binaries = project / "venv" / "bin"
        pip = (binaries / "python", "-m", "pip", "--quiet", "--disable-pip-version-check")
        # From the files by path, so that a stranger's package of the same name is never taken.
        wheels = [
            path
            for path in sorted((self.built / "python").glob("*.whl"))
            if package == "agent-service" or "client" in path.name
        ]
        run(*pip, "install", *wheels, cwd=project)
        return binaries

    # TypeScript

    def build_typescript(self) -> str:
        """What `npm publish` would send."""
        out = self.project("built/typescript")
        run("npm", "pack", "--silent", "--pack-destination", out, cwd=self.tree / "clients" / "typescript")
        (archive,) = out.iterdir()
        with tarfile.open(archive) as files:
            names = files.getnames()
        lacking = {"package/LICENSE", "package/README.md", "package/dist/src/index.d.ts"} - {*names}
        if lacking:
            raise RuntimeError(f"{archive.name} lacks {lacking}")
        return f"{archive.name}, {len(names)} files"

    def try_typescript(self) -> None:
        """A project in which the package is imported, its package.json is asked for, and its types are found."""
        project = self.project("typescript-project")
        (archive,) = (self.built / "typescript").iterdir()
        (project / "package.json").write_text('{"private": true, "type": "module"}', "utf-8")
        run("npm", "install", "--silent", "--no-fund", "--no-audit", archive, cwd=project)
        code = first_code(self.tree / "clients/typescript/README.md", "js")
        (project / "stream.mjs").write_text(code, "utf-8")
        (project / "stream.ts").write_text(code, "utf-8")
        self.called("node", "stream.mjs", cwd=project)
        asked = (
            'import known from "agent-service-client/package.json" with { type: "json" }; console.log(known.version)'
        )
        if run("node", "--no-warnings", "--input-type=module", "-e", asked, cwd=project).strip() != self.version:
            raise RuntimeError("package.json cannot be imported, or has another version")
        modules = self.tree / "clients/typescript/node_modules"
        compiler = (modules / ".bin/tsc", "--noEmit", "--strict", "--module", "nodenext", "--target", "es2022")
        run(*compiler, "--types", "node", "--typeRoots", modules / "@types", "stream.ts", cwd=project)

    # Go

    def build_go(self) -> str:
        """The module's archive, as a proxy serves it; `go` takes it from there as from the public one."""
        module, name = self.tree / "clients" / "go", f"{self.go_module}@v{self.version}"
        served = self.project("built/go") / self.go_module / "@v"
        served.mkdir(parents=True)
        nested = [path.parent for path in module.rglob("go.mod") if path.parent != module]
        files = [
            path
            for path in sorted(module.rglob("*"))
            if path.is_file() and not any(path.is_relative_to(other) for other in nested)
        ]
        with zipfile.ZipFile(served / f"v{self.version}.zip", "w") as archive:
            for path in files:
                archive.write(path, f"{name}/{path.relative_to(module)}")
        shutil.copy(module / "go.mod", served / f"v{self.version}.mod")
        about = {"Version": f"v{self.version}", "Time": "2026-01-01T00:00:00Z"}
        (served / f"v{self.version}.info").write_text(json.dumps(about), "utf-8")
        return f"{name}, {len(files)} files"

    def try_go(self) -> None:
        """A module that requires it by its path and version."""
        project = self.project("go-project")
        (project / "main.go").write_text(first_code(self.tree / "clients/go/README.md", "go"), "utf-8")
        proxies = run("go", "env", "GOPROXY", cwd=project).strip()
        go = {
            "GOPROXY": f"file://{self.built / 'go'},{proxies}",
            "GONOSUMDB": self.go_module,
            "GOMODCACHE": str(self.directory / "go-cache"),
            "GOFLAGS": "-modcacherw -buildvcs=false",
        }
        self.served |= go
        run("go", "mod", "init", "hello", cwd=project, env=go)
        run("go", "get", f"{self.go_module}@v{self.version}", cwd=project, env=go)
        run("go", "mod", "tidy", cwd=project, env=go)
        self.called("go", "run", ".", cwd=project)

    # Java

    def build_java(self) -> str:
        """What the profile `release` makes, without its signatures, in a repository of files."""
        repository = self.project("built/java")
        arguments = (
            "-P",
            "release",
            "-DskipTests",
            "-Dgpg.skip",
            f"-DaltDeploymentRepository=local::file://{repository}",
        )
        run("mvn", "--batch-mode", "--quiet", "deploy", *arguments, cwd=self.tree / "clients" / "java")
        (pom,) = repository.rglob("*.pom")
        stem = pom.name.removesuffix(".pom")
        made = [path.name for path in pom.parent.iterdir() if path.suffix in {".jar", ".pom"}]
        lacking = {f"{stem}.jar", f"{stem}-sources.jar", f"{stem}-javadoc.jar"} - {*made}
        if lacking:
            raise RuntimeError(f"the profile release does not make {lacking}")
        return ", ".join(sorted(made))

    def try_java(self) -> None:
        """A project with the dependency that the README shows."""
        project = self.project("java-project")
        readme = self.tree / "clients/java/README.md"
        code = first_code(readme, "java")
        (name,) = re.findall(r"^public class (\w+)", code, flags=re.MULTILINE)
        sources = project / "src/main/java"
        sources.mkdir(parents=True)
        (sources / f"{name}.java").write_text(code, "utf-8")
        repository = f"<id>local</id><url>file://{self.built / 'java'}</url>"
        (project / "pom.xml").write_text(
            "<project><modelVersion>4.0.0</modelVersion><groupId>hello</groupId><artifactId>hello</artifactId>"
            "<version>1</version><properties><maven.compiler.source>17</maven.compiler.source>"
            "<maven.compiler.target>17</maven.compiler.target></properties>"
            f"<repositories><repository>{repository}</repository></repositories>"
            f"<dependencies>{first_code(readme, 'xml')}</dependencies></project>",
            "utf-8",
        )
        # Maven's cache, without what it may hold of our own.
        cache = self.project("maven-cache")
        for known in (Path.home() / ".m2" / "repository").glob("*"):
            if known.name != "dev":
                (cache / known.name).symlink_to(known)
        goals = ("compile", "dependency:copy-dependencies", "-DincludeScope=runtime", f"-Dmaven.repo.local={cache}")
        run("mvn", "--batch-mode", "--quiet", *goals, cwd=project)
        self.called("java", "-cp", "target/classes:target/dependency/*", name, cwd=project)


@contextmanager
def server(command: Path, directory: Path) -> Iterator[dict[str, str]]:
    """The installed service, and the variables with which clients find it."""
    key = secrets.token_urlsafe(32)
    with running_server(directory, str(command), "serve", API_KEY=key) as running:
        yield {"API_KEY": key, "AGENT_SERVICE_TARGET": running.target}


def tell(what: str, began: float, text: str) -> None:
    """One line for one thing that was checked."""
    print(f"{what:22} {monotonic() - began:6.1f} s  {text}", flush=True)


def checked(release: Release, languages: list[str]) -> list[str]:
    """Check all; the languages that were left out."""
    began = monotonic()
    run(sys.executable, "scripts/package_metadata.py", "--check", cwd=release.tree)
    tell("metadata", began, f"version {release.version} and addresses agree in all packages")
    began = monotonic()
    tell("python build", began, release.build_python())
    command = release.install_service()
    left_out = []
    with server(command, release.project("served")) as release.served:
        tell(
            "python service",
            began,
            f"installed in a fresh environment; serves {release.served['AGENT_SERVICE_TARGET']}",
        )
        steps: dict[str, tuple[list[str], Callable[[], str] | None, Callable[[], None]]] = {
            "python": ([], None, release.try_python),
            "go": (["go"], release.build_go, release.try_go),
            "typescript": (["node", "npm"], release.build_typescript, release.try_typescript),
            "java": (["java", "mvn"], release.build_java, release.try_java),
        }
        for language in languages or steps:
            tools, build, attempt = steps[language]
            lacking = [tool for tool in tools if shutil.which(tool) is None]
            if lacking:
                left_out.append(f"{language} (no {' and no '.join(lacking)})")
                continue
            began = monotonic()
            if build is not None:
                tell(f"{language} build", began, build())
            began = monotonic()
            attempt()
            tell(f"{language} client", began, "installed in a fresh project; its README's first code got its answer")
    return left_out


def main() -> int:
    """1 where something is left out and CI is set."""
    parser = argparse.ArgumentParser(
        description="Build every package, install each into a fresh project, call a server."
    )
    parser.add_argument("languages", nargs="*", help="python, go, typescript, java; none: all")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="copy what was built there, by language")
    arguments = parser.parse_args()
    if run("git", "status", "--porcelain", cwd=ROOT):
        print("Checked is the last commit; what is not committed is left out.")
    with tempfile.TemporaryDirectory(prefix="agent-service-release-") as directory:
        release = Release(Path(directory))
        left_out = checked(release, arguments.languages)
        if arguments.keep is not None:
            shutil.copytree(release.built, arguments.keep, dirs_exist_ok=True)
            print(f"built: {arguments.keep}")
    for language in left_out:
        print(f"LEFT OUT: {language}")
    if re.search(r"//[^/]*example\.", release.repository):
        print(f"NOT TO PUBLISH YET: {release.repository} is a placeholder; docs/releasing.md says where to set it")
    return 1 if left_out and os.environ.get("CI", "") not in {"", "0", "false"} else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"release-check: {error}")
