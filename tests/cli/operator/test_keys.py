"""`agent-service keys`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent_service.cli import main
from agent_service.cli.operator.keys import keys
from agent_service.errors import AuthenticationError
from agent_service.keys.base import Scope
from agent_service.keys.file import load_keys
from agent_service.keys.ring import KeyRing
from agent_service.keys.secret import generate, hash_text, parse, public_id_of

ENTRY = "- {{id: {id}, hash: '{hash}', tenant: acme, scopes: [tasks.run]{more}}}\n"
FULL = "--id ci-2026 --tenant acme --scope tasks.run --scope tasks.read --agent assistant --tool *"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("API_KEYS_FILE", raising=False)


def run(arguments: str) -> Result:
    return CliRunner().invoke(keys, arguments.split())


def written(tmp_path: Path, *entries: str) -> Path:
    path = tmp_path / "keys.yaml"
    path.write_text("keys:\n" + "".join(entries))
    return path


def entry(key_id: str, more: str = "") -> str:
    return ENTRY.format(id=key_id, hash=hash_text(key_id), more=more)


def test_a_new_key_works_once_its_entry_is_in_the_file(tmp_path: Path) -> None:
    made = run(f"new {FULL} --not-after 2999-01-01T00:00:00Z")
    assert made.exit_code == 0
    (secret,) = made.stdout.splitlines()
    path = tmp_path / "keys.yaml"
    path.write_text(made.stderr)  # as a reader would paste it
    assert run(f"check --file {path}").stdout == f"{path}: 1 key\n"
    principal = KeyRing(load_keys(path)).authenticate(secret)
    assert (principal.tenant, principal.key_id) == ("acme", "ci-2026")
    assert principal.scopes == frozenset({Scope.TASKS_RUN, Scope.TASKS_READ})
    assert principal.agents == frozenset({"assistant"})
    assert principal.tools is None
    assert "2999-01-01T00:00:00Z" in run(f"list --file {path}").stdout


def test_a_second_key_is_added_by_appending_what_stands_below_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(run(f"new {FULL}").stderr)
    _, _, lines = run("new --tenant acme --scope tasks.run").stderr.rpartition("keys:\n")
    path.write_text(path.read_text() + lines)
    assert run(f"check --file {path}").stdout == f"{path}: 2 keys\n"


def test_the_secret_is_shown_nowhere_but_on_stdout() -> None:
    made = run(f"new {FULL}")
    assert parse(made.stdout.strip()) == public_id_of("ci-2026")
    assert made.stdout.strip() not in made.stderr


def test_without_an_id_a_key_gets_one_of_its_own() -> None:
    made = [run("new --tenant t --scope tasks.run") for _ in range(2)]
    ids = [re.search(r"^ *- id: '?(\w{12})'?$", result.stderr, re.MULTILINE) for result in made]
    assert ids[0]
    assert ids[1]
    assert ids[0][1] != ids[1][1]
    assert parse(made[0].stdout.strip()) == ids[0][1]


def test_a_new_secret_of_an_old_key_works_beside_the_old_one(tmp_path: Path) -> None:
    old, new = (run(f"new {FULL}").stdout.strip() for _ in range(2))
    hashes = f"hashes: [{{hash: '{hash_text(old)}', not_after: 2020-01-01T00:00:00Z}}, {{hash: '{hash_text(new)}'}}]"
    path = written(tmp_path, f"- {{id: ci-2026, {hashes}, tenant: acme, scopes: [tasks.run]}}\n")
    ring = KeyRing(load_keys(path))
    assert ring.authenticate(new).key_id == "ci-2026"
    with pytest.raises(AuthenticationError) as caught:
        ring.authenticate(old)
    assert caught.value.reason_name == "API_KEY_EXPIRED"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("new --scope tasks.run", "--tenant"),
        ("new --tenant t", "--scope"),
        ("new --tenant t --scope tasks.fly", "tasks.run"),
        ("new --tenant t/x --scope tasks.run", "tenant: must be 1 to 128 characters"),
        ("new --tenant t --scope tasks.run --id default", "id: must be another id"),
        ("new --tenant t --scope tasks.run --agent a/b", "agents[0]: must be 1 to 128 characters"),
        ("new --tenant t --scope tasks.run --not-after 2027-01-01", "not_after: must be a date and a time"),
    ],
)
def test_a_key_that_no_file_could_hold_is_not_made(arguments: str, told: str) -> None:
    result = run(arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stdout == ""


def test_list_tells_who_may_what_until_when_and_no_hash(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        entry("one"),
        entry("longer-name", ", not_after: 2020-01-01T01:00:00+01:00"),
        entry("three", ", disabled: true"),
    )
    result = run(f"list --file {path}")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["ID", "PUBLIC", "ID", "TENANT", "SCOPES", "ENDS"]
    assert [line.split() for line in lines[1:]] == [
        ["one", public_id_of("one"), "acme", "tasks.run", "never"],
        ["longer-name", public_id_of("longer-name"), "acme", "tasks.run", "2020-01-01T01:00:00+01:00", "(expired)"],
        ["three", public_id_of("three"), "acme", "tasks.run", "disabled"],
    ]
    assert len({line.find("tasks.run") for line in lines[1:]}) == 1
    assert "sha256" not in result.output
    assert hash_text("one").removeprefix("sha256:") not in result.output


def test_list_shows_the_identity_of_a_key_that_is_a_certificates(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text("keys: [{id: worker, identity: 'spiffe://prod/*', tenant: acme, scopes: [tasks.run]}]")
    line = run(f"list --file {path}").stdout.splitlines()[1]
    assert line.split() == ["worker", "spiffe://prod/*", "acme", "tasks.run", "never"]


def test_check_counts_the_keys_of_a_good_file(tmp_path: Path) -> None:
    path = written(tmp_path, entry("one"), entry("two"))
    result = run(f"check --file {path}")
    assert (result.exit_code, result.stdout) == (0, f"{path}: 2 keys\n")


@pytest.mark.parametrize("command", ["check", "list"])
def test_a_bad_file_is_exit_2_with_every_problem(tmp_path: Path, command: str) -> None:
    secret = generate(public_id_of("one"))
    path = written(tmp_path, entry("one"), entry("one"), f"- {{id: {secret}, hash: {secret}}}\n")
    result = run(f"{command} --file {path}")
    assert (result.exit_code, result.stdout) == (2, "")
    told = result.stderr.splitlines()
    assert len(told) == 6
    assert all(line.startswith(f"{path}:") for line in told)
    assert secret not in result.output


def test_a_file_that_is_not_there_is_exit_2() -> None:
    result = run("check --file nowhere.yaml")
    assert (result.exit_code, result.stderr) == (2, "nowhere.yaml: does not exist\n")


@pytest.mark.parametrize("where", ["environment", ".env", "nowhere"])
def test_the_file_is_that_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    path = written(tmp_path, entry("one"))
    if where == "environment":
        monkeypatch.setenv("API_KEYS_FILE", str(path))
    elif where == ".env":
        (tmp_path / ".env").write_text(f"API_KEYS_FILE={path}\n")
    result = run("check")
    assert result.exit_code == (2 if where == "nowhere" else 0)
    assert ("--file" in result.stderr) == (where == "nowhere")


def test_the_group_is_part_of_the_command_line() -> None:
    result = CliRunner().invoke(main, ["keys", "--help"])
    assert result.exit_code == 0
    assert all(command in result.stdout for command in ("new", "list", "check"))
