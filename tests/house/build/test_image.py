"""What the Dockerfile promises, read as text; `make test-image` builds and tries it, which takes too long for here."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

from agent_service.config.loader import load_settings
from agent_service.config.settings import Settings, variables

ROOT = Path(__file__).parents[3]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
NOT_OURS = {"PATH", "PYTHONDONTWRITEBYTECODE"}  # the shell's and the interpreter's


class Instruction(NamedTuple):
    name: str
    rest: str


def instructions() -> list[Instruction]:
    """The Dockerfile without comments, each instruction on one line."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in lines if line]


def stages() -> list[list[Instruction]]:
    """The instructions of each stage; what stands before the first FROM is left out."""
    found: list[list[Instruction]] = []
    for instruction in instructions():
        if instruction.name == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def final(name: str) -> str:
    """What the one instruction of that name in the last stage says."""
    (rest,) = (instruction.rest for instruction in stages()[-1] if instruction.name == name)
    return rest


def assignments(rest: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in re.findall(r'(\S+?)=("[^"]*"|\S+)', rest)}


def commands(stages: list[list[Instruction]]) -> list[str]:
    """What RUN runs, each command on one line."""
    runs = [instruction.rest for stage in stages for instruction in stage if instruction.name == "RUN"]
    return [command.strip() for run in runs for command in run.split("&&")]


def environment() -> dict[str, str]:
    return assignments(final("ENV"))


def settings() -> dict[str, str]:
    """The part of the image's environment that is meant for the service."""
    return {name: value for name, value in environment().items() if name not in NOT_OURS}


def is_sent(path: str) -> bool:
    """Whether .dockerignore lets the builder have a path: the last line that fits it, or a folder above, decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        if line and not line.startswith("#") and _fits(line.removeprefix("!"), PurePosixPath(path)):
            sent = line.startswith("!")
    return sent


def _fits(pattern: str, path: PurePosixPath) -> bool:
    expression = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return any(re.fullmatch(expression, str(part)) for part in (path, *path.parents) if part.name)


def test_both_stages_stand_on_one_base_of_a_named_version() -> None:
    first = instructions()[0]
    version = re.fullmatch(r"BASE=python:(3\.\d+)-slim-[a-z]+", first.rest)

    assert [stage[0].rest for stage in stages()] == ["${BASE} AS build", "${BASE}"]
    assert version is not None
    assert f"Programming Language :: Python :: {version[1]}" in PROJECT["classifiers"]
    assert "latest" not in (ROOT / "Dockerfile").read_text("utf-8")


def test_everything_installed_is_checked_by_its_hash_or_is_this_checkout() -> None:
    installed = [command for command in commands(stages()) if "-m pip " in command]

    assert len(installed) == 3
    assert [command for command in installed if "--require-hashes" not in command] == [installed[-1]]
    assert installed[-1].endswith("--no-deps --no-build-isolation . ./clients/python")


def test_the_build_backend_is_the_one_that_development_locks() -> None:
    (extracted,) = re.findall(r"wanted = /\^(\w+)==/", (ROOT / "Dockerfile").read_text("utf-8"))

    required = [re.split(r"[<>=~!]", requirement)[0] for requirement in PYPROJECT["build-system"]["requires"]]

    assert required == [extracted]
    assert re.search(rf"^{extracted}==\S+", (ROOT / "requirements-dev.lock").read_text("utf-8"), flags=re.MULTILINE)


def test_the_last_stage_installs_nothing() -> None:
    assert {command.split()[0] for command in commands(stages()[-1:])} == {"test", "python3", "install"}
    assert not any("-m pip " in command for command in commands(stages()[-1:]))
    assert final("COPY") == "--from=build /opt/agent-service /opt/agent-service"


def test_bytecode_is_made_in_advance_and_never_at_run_time() -> None:
    compiled = [command for command in commands(stages()) if "compileall" in command]

    assert len(compiled) == 2
    assert all("--invalidation-mode unchecked-hash" in command for command in compiled)
    assert environment()["PYTHONDONTWRITEBYTECODE"] == "1"


def test_it_runs_as_a_user_with_a_number_that_is_not_root() -> None:
    uid, gid = final("USER").split(":")

    assert int(uid) >= 10_000
    assert int(gid) >= 10_000


def test_data_is_a_volume_that_any_user_can_write() -> None:
    order = [instruction.name for instruction in stages()[-1]]

    assert final("VOLUME") == "/data"
    assert f"install -d -m 1777 -o {final('USER').replace(':', ' -g ')} /data" in commands(stages()[-1:])
    assert order.index("RUN") < order.index("VOLUME")  # what is changed in a volume later is lost


def test_every_variable_of_the_image_is_a_setting_and_all_of_them_are_valid() -> None:
    assert set(settings()) <= variables().keys()
    loaded = load_settings(settings() | {"API_KEY": "k" * 32}, dotenv_path=None)

    assert loaded.is_production
    assert loaded.api_host == "0.0.0.0"
    assert loaded.database_path is not None
    assert loaded.database_path.parent == Path("/data")


def test_nothing_secret_is_in_the_image() -> None:
    secret = {str(field.alias) for field in Settings.model_fields.values() if "Secret" in str(field.annotation)}
    text = (ROOT / "Dockerfile").read_text("utf-8")

    assert {"API_KEY", "OPENAI_API_KEY"} <= secret
    assert re.findall(rf"\b(?:{'|'.join(secret)})=", text) == []


def test_the_ports_of_the_service_and_of_its_metrics_are_exposed() -> None:
    loaded = load_settings(settings() | {"API_KEY": "k" * 32}, dotenv_path=None)

    assert final("EXPOSE").split() == [str(loaded.api_port), str(loaded.metrics_port)]


def test_it_serves_unless_told_otherwise_and_is_stopped_by_the_signal_that_drains() -> None:
    assert json.loads(final("ENTRYPOINT")) == ["agent-service"]
    assert json.loads(final("CMD")) == ["serve"]
    assert final("STOPSIGNAL") == "SIGTERM"


def test_its_health_is_asked_by_its_own_command_line() -> None:
    options, _, command = final("HEALTHCHECK").partition(" CMD ")

    assert options.split() == ["--interval=30s", "--timeout=10s", "--start-period=5s", "--retries=3"]
    assert json.loads(command) == ["agent-service", "health"]


def test_its_labels_say_what_pyproject_says() -> None:
    said = {
        "title": PROJECT["name"],
        "description": PROJECT["description"],
        "version": PROJECT["version"],
        "licenses": PROJECT["license"],
        "source": PROJECT["urls"]["Repository"],
        "revision": "${REVISION}",
    }

    assert assignments(final("LABEL")) == {f"org.opencontainers.image.{name}": value for name, value in said.items()}


def test_the_manual_runs_the_image_of_this_version_and_gives_it_time_to_drain() -> None:
    manual = (ROOT / "docs" / "container.md").read_text("utf-8")
    loaded = load_settings({}, dotenv_path=None)
    (stop_timeout,) = re.findall(r"--stop-timeout (\d+)", manual)

    assert set(re.findall(r"agent-service:([\w.]+)", manual)) == {PROJECT["version"]}
    assert int(stop_timeout) == loaded.drain_delay_s + loaded.drain_grace_s + 5


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".env.example",
        ".git/config",
        ".tools/bin/grpcurl",
        ".venv/bin/python",
        "agent_service.db",
        "agent_service.db-wal",
        "agent_service/.env",
        "agent_service/agent_service.db",
        "agent_service/store/__pycache__/base.cpython-313.pyc",
        "config.yaml",
        "keys.yaml",
        "tests/house/build/test_image.py",
    ],
)
def test_the_builder_does_not_get(path: str) -> None:
    assert not is_sent(path)


def test_the_builder_gets_what_it_copies() -> None:
    copied = [instruction.rest.split() for instruction in stages()[0] if instruction.name == "COPY"]
    sources = [source for (*sources, _) in copied for source in sources]

    assert sources
    assert [source for source in sources if not (is_sent(source) and (ROOT / source).exists())] == []
    assert is_sent("agent_service/config/default.yaml")
    assert is_sent("agent_service/server/contract.binpb")
