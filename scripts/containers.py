"""What runs the container that `make test-image` tries: docker or podman where one runs.

Else, as root on Linux, buildah and the kernel's namespaces. apt brings what is missing for that, in CI or with
INSTALL_SYSTEM_PACKAGES=yes; where the base image cannot be pulled, Debian's own Python stands in for it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).parents[1]
USER = "12345"
IMAGE = f"agent-service-test:{os.getpid()}"
SETTINGS = {"LLM_PROVIDER": "scripted"}


class Failed(Exception):
    """The image is not as it should be, or cannot be tried here."""


class Container(Protocol):
    """What the scenario needs of whatever runs a container. `base` is the image below, as it was built."""

    base: str

    def build(self) -> None: ...

    def size(self) -> str: ...

    def start(self, key: str) -> None: ...

    def inside(self, *command: str) -> str:
        """What a command in the container prints."""
        ...

    def is_running(self) -> bool: ...

    def terminate(self) -> None: ...

    def wait_for_end(self) -> int:
        """The exit code of the server."""
        ...

    def log(self) -> str: ...

    def clean_up(self) -> None: ...


class Engine:
    """docker or podman."""

    def __init__(self, engine: str, base: str, work: Path) -> None:
        self._engine = engine
        self.base = base
        self._log = work / "log"
        self._volume = f"agent-service-test-{os.getpid()}"
        self._server = ""

    def build(self) -> None:
        script = ("sh", "scripts/image", IMAGE, "--build-arg", f"BASE={self.base}")
        with self._log.open("ab") as log:
            succeed(script, log=log)

    def size(self) -> str:
        return self._run("image", "inspect", "--format", "{{.Size}} bytes", IMAGE)

    def start(self, key: str) -> None:
        self._remove()
        settings = [word for name in ("API_KEY", *SETTINGS) for word in ("--env", name)]
        isolation = f"--user {USER}:{USER} --read-only --tmpfs /tmp --network none --cap-drop ALL --stop-timeout 25"
        more = ("--security-opt", "no-new-privileges", "--volume", f"{self._volume}:/data")
        self._server = self._run(
            "run", "--detach", *isolation.split(), *more, *settings, IMAGE, env={"API_KEY": key, **SETTINGS}
        )

    def inside(self, *command: str) -> str:
        return output((self._engine, "exec", self._server, *command))

    def is_running(self) -> bool:
        return self._run("inspect", "--format", "{{.State.Running}}", self._server) == "true"

    def terminate(self) -> None:
        self._run("stop", self._server)

    def wait_for_end(self) -> int:
        return int(self._run("wait", self._server))

    def log(self) -> str:
        if self._server:
            return output((self._engine, "logs", self._server))
        return self._log.read_text("utf-8") if self._log.exists() else ""

    def clean_up(self) -> None:
        self._remove()
        output((self._engine, "volume", "rm", "--force", self._volume))
        output((self._engine, "image", "rm", "--force", IMAGE))

    def _remove(self) -> None:
        if self._server:
            output((self._engine, "rm", "--force", self._server))

    def _run(self, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        return succeed((self._engine, *arguments), env=env)


# What an engine prepares: the image's files read-only, and a few that are not the image's.
ISOLATE = """
mount --bind "$root" "$root"
mount --bind "$work/data" "$root/data"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/dev"
for device in null zero full random urandom; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mount --bind /etc/hosts "$root/etc/hosts"
mount -o remount,bind,ro "$root"
ip link set lo up
"""
BECOME_USER = """
while IFS= read -r variable; do set -- "$variable" "$@"; done <"$work/environment"
exec chroot "$root" setpriv --reuid "$user" --regid "$user" --clear-groups --bounding-set=-all --inh-caps=-all \
    --no-new-privs --pdeathsig KILL env --ignore-environment --chdir "$directory" "$@"
"""


class Namespaces:
    """buildah, and the namespaces of the kernel."""

    NAMESPACES = ("--mount", "--pid", "--net", "--ipc", "--uts")
    COMMANDS: Mapping[str, str] = {
        "buildah": "buildah",
        "unshare": "util-linux",
        "nsenter": "util-linux",
        "setpriv": "util-linux",
        "ip": "iproute2",
    }

    def __init__(self, base: str, work: Path) -> None:
        if os.geteuid() != 0:
            raise Failed("neither docker nor podman runs here; without them this needs root")
        self.base = base
        self._work = work
        self._log = work / "log"
        self._root = self._directory = ""
        self._server: subprocess.Popen[bytes] | None = None
        install_missing(self.COMMANDS, self._log)

    def build(self) -> None:
        with self._log.open("ab") as log:
            if subprocess.run(self._buildah("pull", self.base), stdout=log, stderr=log, check=False).returncode != 0:
                self._stand_in()
            how_packages_are_reached = [
                word
                for file in ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
                if Path(file).exists()
                for word in ("--volume", f"{file}:{file}:ro")
            ]
            bud = ("bud", "--isolation", "chroot", "--format", "docker", "--build-arg", f"BASE={self.base}")
            succeed(self._buildah(*bud, "--tag", IMAGE, *how_packages_are_reached, "."), log=log)
        self._root = self._storage("mount", self._storage("from", IMAGE))
        succeed(("cp", "-a", f"{self._root}/data", str(self._work / "data")))  # as a new volume begins
        self._directory = self._config("{{.WorkingDir}}")

    def size(self) -> str:
        return self._storage("images", "--format", "{{.Size}}", IMAGE)

    def start(self, key: str) -> None:
        variables = [*self._lines("Env"), f"API_KEY={key}", *(f"{name}={text}" for name, text in SETTINGS.items())]
        (self._work / "environment").write_text("".join(f"{line}\n" for line in variables), "utf-8")
        # One process holds all the namespaces. Whatever ends this script, or it, ends the server and undoes the mounts.
        holder = ("setpriv", "--pdeathsig", "KILL", "unshare", *self.NAMESPACES, "--fork", "--kill-child")
        command = (*self._lines("Entrypoint"), *self._lines("Cmd"))
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                (*holder, "sh", "-euc", ISOLATE + BECOME_USER, "start", *command),
                env=self._environment(),
                stdout=log,
                stderr=log,
            )

    def inside(self, *command: str) -> str:
        pid = self._pid()
        if pid is None:
            return "(the server has not begun)"
        enter = ("nsenter", "--target", pid, *self.NAMESPACES, "sh", "-euc", BECOME_USER, "inside")
        return output((*enter, *command), env=self._environment())

    def is_running(self) -> bool:
        return self._server is not None and self._server.poll() is None

    def terminate(self) -> None:
        pid = self._pid()
        assert pid is not None
        os.kill(int(pid), signal.Signals[self._config("{{.StopSignal}}")])

    def wait_for_end(self) -> int:
        assert self._server is not None
        return self._server.wait()

    def log(self) -> str:
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    def clean_up(self) -> None:
        if self._server is not None and self._server.poll() is None:
            self._server.kill()
            self._server.wait()
        output(self._buildah("rm", "--all"))

    def _pid(self) -> str | None:
        """The server's process as it is known out here; in there it is 1."""
        assert self._server is not None
        children = Path(f"/proc/{self._server.pid}/task/{self._server.pid}/children")
        try:
            return children.read_text("utf-8").strip() or None
        except OSError:  # it has ended
            return None

    def _environment(self) -> dict[str, str]:
        variables = {"work": str(self._work), "root": self._root, "directory": self._directory, "user": USER}
        return os.environ | variables

    def _buildah(self, *arguments: str) -> Sequence[str]:
        storage = ("--root", f"{self._work}/storage", "--runroot", f"{self._work}/run", "--storage-driver", "vfs")
        return ("buildah", *storage, *arguments)

    def _storage(self, *arguments: str) -> str:
        return succeed(self._buildah(*arguments))

    def _config(self, template: str) -> str:
        form = "{{with .Docker.Config}}" + template + "{{end}}"
        return self._storage("inspect", "--type", "image", "--format", form, IMAGE)

    def _lines(self, name: str) -> list[str]:
        """A list of the image's configuration."""
        return self._config(f"{{{{range .{name}}}}}{{{{println .}}}}{{{{end}}}}").splitlines()

    def _stand_in(self) -> None:
        """Debian's Python as Python's image has it: no bytecode, no files of the machine that made it."""
        suite = self.base.rpartition("-")[2]
        archive = ROOT / ".tools" / f"stand-in-{suite}.tar"
        self.base = f"localhost/debian-python:{suite}"
        if not archive.exists():
            install_missing({"mmdebstrap": "mmdebstrap"}, self._log)
            archive.parent.mkdir(exist_ok=True)
            packages = "--include=ca-certificates,netbase,tzdata,python3,python3-pip,python3-venv"
            left_out = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")]
            made = str(self._work / "stand-in.tar")
            with self._log.open("ab") as log:
                succeed(("mmdebstrap", "--quiet", "--variant=minbase", packages, *left_out, suite, made), log=log)
            shutil.move(made, archive)
        files = self._work / "stand-in"
        files.mkdir()
        succeed(("tar", "-C", str(files), "-xf", str(archive)))
        for name in ("etc/hostname", "etc/resolv.conf"):
            (files / name).unlink()
        succeed(("find", str(files), "-name", "__pycache__", "-prune", "-exec", "rm", "-rf", "{}", "+"))
        container = self._storage("from", "scratch")
        self._storage("add", container, str(files), "/")
        self._storage("commit", container, self.base)


def engine_that_runs() -> str:
    """docker, podman or neither: nothing."""
    try:
        return succeed(("sh", "scripts/image", "--engine"))
    except Failed:
        return ""


def install_missing(commands: Mapping[str, str], log: Path) -> None:
    """Install the packages of the commands that are not there.

    Raises:
        Failed: that cannot be done here, or is not wanted.
    """
    missing = sorted({package for command, package in commands.items() if shutil.which(command) is None})
    if not missing:
        return
    packages = " ".join(missing)
    if shutil.which("apt-get") is None:
        raise Failed(f"without docker and podman this needs {packages}")
    if not (os.environ.get("CI") or os.environ.get("INSTALL_SYSTEM_PACKAGES")):
        raise Failed(f"this needs {packages}; apt-get install them, or set INSTALL_SYSTEM_PACKAGES=yes")
    say(f"installing {packages} with apt")
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    with log.open("ab") as file:
        succeed(("apt-get", "update"), log=file)
        succeed(("apt-get", "install", "--yes", "--no-install-recommends", *missing), env=env, log=file)


def output(command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """What a command prints, whether it succeeds or not."""
    done = subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.stdout.decode("utf-8", "replace").strip()


def succeed(command: Sequence[str], env: Mapping[str, str] | None = None, log: object = None) -> str:
    """The command's standard output; with `log`, a file, everything goes there.

    Raises:
        Failed: it did not succeed.
    """
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | (env or {}),
        stdin=subprocess.DEVNULL,
        stdout=log or subprocess.PIPE,  # type: ignore[call-overload]
        stderr=log or subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0:
        raise Failed(f"{' '.join(command[:8])}: {(done.stderr or b'').decode('utf-8', 'replace').strip()}")
    return (done.stdout or b"").decode("utf-8").strip()


def say(text: str) -> None:
    print(f"test-image: {text}", flush=True)
