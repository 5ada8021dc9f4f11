"""What a file of keys may say, and what is told of one that says something else."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.errors import ConfigError
from agent_service.keys.base import Scope
from agent_service.keys.file import load_keys, parse_keys
from agent_service.keys.secret import generate, hash_text, public_id_of
from agent_service.reloading import BYTES_MAX

CANARY = generate("CanaryCanary")
HASH = hash_text(CANARY)
HASH2 = hash_text("another")
KEY = f"id: a, hash: '{HASH}', tenant: t, scopes: [tasks.run]"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_keys(text.encode(errors="surrogatepass"), "keys.yaml")
    told = list(caught.value.problems)
    assert CANARY not in str(told)
    assert HASH.removeprefix("sha256:") not in str(told)
    return told


def test_a_file_of_keys_is_read() -> None:
    text = f"""
keys:
  - id: ci-2026
    hash: {HASH}
    tenant: acme
    scopes: [tasks.run, tasks.read]
    agents: [assistant]
    tools: ["*"]
    not_after: 2027-01-01T00:00:00Z
  - id: 123456789012
    hashes:
      - {{hash: "{HASH2}", not_after: "2026-07-01T02:00:00+02:00"}}
      - {{hash: "sha256:{"0" * 64}"}}
    tenant: yes
    scopes: [admin]
    disabled: true
"""
    first, second = parse_keys(text.encode(), "keys.yaml")
    principal = first.principal
    assert (principal.tenant, principal.key_id) == ("acme", "ci-2026")
    assert principal.scopes == {Scope.TASKS_RUN, Scope.TASKS_READ}
    assert principal.agents == frozenset({"assistant"})
    assert principal.tools is None
    assert first.public_id == public_id_of("ci-2026")
    assert first.expires == datetime(2027, 1, 1, tzinfo=UTC)
    assert [f"sha256:{known.digest.hex()}" for known in first.hashes] == [HASH]
    assert (second.principal.key_id, second.public_id, second.principal.tenant) == ("123456789012",) * 2 + ("yes",)
    assert second.hashes[0].not_after == datetime(2026, 7, 1, tzinfo=UTC)
    assert second.hashes[1].not_after is None
    assert second.disabled
    assert not first.disabled


def test_a_key_may_use_no_agents_and_tools_that_it_does_not_list() -> None:
    (key,) = parse_keys(f"keys: [{{{KEY}}}]".encode(), "keys.yaml")
    assert not key.principal.may_use_agent("assistant")
    assert not key.principal.may_use_tool("calculator")


def test_a_file_may_have_no_keys_left() -> None:
    assert parse_keys(b"keys: []", "keys.yaml") == ()


def test_every_problem_is_told_at_once_by_line() -> None:
    text = f"""keys:
  - id: good
    hash: {HASH}
    tenant: t
    scopes: [tasks.run]
  - id: bad id
    hash: {CANARY}
    hashes: []
    tenant: {CANARY}
    scopes: [tasks.fly, {CANARY}]
    agents: assistant
    tools: [{CANARY}, "*"]
    not_after: 2027-01-01
    disabled: perhaps
    secret: {CANARY}
    {CANARY}: x
  - id: good
    hashes:
      - hash: {HASH}
        not_after: 1767225600
      - {{hash: ""}}
      - {{}}
  - {CANARY}
  - id: default
    tenant: t
    scopes: []
    scopes: [admin]
"""
    hash_text_rule = "must be sha256: and 64 lower-case hex digits, as `agent-service keys new` prints it"
    name_rule = "must be 1 to 128 characters of A-Z a-z 0-9 . _ : -"
    instant_rule = "must be a date and a time with its zone, such as 2026-07-01T00:00:00Z"
    scopes = "tasks.run, tasks.read, tasks.cancel, tasks.answer, tasks.delete, tools.invoke, usage.read, admin"
    scope_rule = f"must be one of {scopes}"
    assert problems(text) == [
        f"keys.yaml:6 keys[1].id: {name_rule}",
        f"keys.yaml:7 keys[1].hash: {hash_text_rule}",
        "keys.yaml:9 keys[1].tenant: must not be a secret",
        f"keys.yaml:10 keys[1].scopes[0]: {scope_rule}",
        f"keys.yaml:10 keys[1].scopes[1]: {scope_rule}",
        "keys.yaml:11 keys[1].agents: must be a list",
        "keys.yaml:12 keys[1].tools[0]: must not be a secret",
        f"keys.yaml:13 keys[1].not_after: {instant_rule}",
        "keys.yaml:14 keys[1].disabled: must be true or false",
        "keys.yaml:15 keys[1].secret: is not a known name here",
        "keys.yaml:16 keys[1].?: is not a known name here",
        "keys.yaml:17 keys[2].id: must be unique: line 2 has the same id",
        "keys.yaml:17 keys[2].tenant: is missing",
        "keys.yaml:17 keys[2].scopes: is missing",
        "keys.yaml:18 keys[2].hashes: must have at most 2 entries",
        "keys.yaml:19 keys[2].hashes[0].hash: must be unique: line 3 has the same hash",
        f"keys.yaml:20 keys[2].hashes[0].not_after: {instant_rule}",
        f"keys.yaml:21 keys[2].hashes[1].hash: {hash_text_rule}",
        "keys.yaml:22 keys[2].hashes[2].hash: is missing",
        "keys.yaml:23 keys[3]: must be a mapping",
        "keys.yaml:24 keys[4]: must have exactly one of hash, hashes and identity",
        "keys.yaml:24 keys[4].id: must be another id: this one belongs to the key in API_KEY",
        "keys.yaml:26 keys[4].scopes: must not be empty",
        "keys.yaml:27 keys[4].scopes: is a duplicate of line 26",
    ]


def test_one_id_is_not_the_public_id_of_another() -> None:
    other = f"id: {public_id_of('a')}, hash: '{HASH2}', tenant: t, scopes: [tasks.run]"
    assert problems(f"keys:\n- {{{KEY}}}\n- {{{other}}}\n") == [
        "keys.yaml:3 keys[1].id: must be unique: line 2 has the same id"
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "keys.yaml: is empty"),
        ("# nothing\n", "keys.yaml: is empty"),
        ("keys", "keys.yaml:1: must be a mapping"),
        ("- a\n", "keys.yaml:1: must be a mapping"),
        ("other: []", "keys.yaml:1 keys: is missing"),
        ("\nkeys:\n", "keys.yaml:2 keys: must be a list"),
        ("keys: {}", "keys.yaml:1 keys: must be a list"),
        pytest.param(f"keys:\n- id: '{CANARY}\n", "keys.yaml:3: is not valid YAML", id="secret"),
        pytest.param(
            f"keys:\n- *{CANARY}\n",
            "keys.yaml:2: is not valid YAML: anchors and aliases are not supported",
            id="alias",
        ),
        ("keys: &a [*a]", "keys.yaml:1: is not valid YAML: anchors and aliases are not supported"),
        ("keys: !!python/object:os.system []", "keys.yaml:1 keys: tags are not supported"),
        ("a: 1\n---\nb: 2\n", "keys.yaml:2: is not valid YAML"),
        ("keys: []\n? [a]\n: b\n", "keys.yaml:2: a key must be text"),
        (r'keys: ["\UFFFFFFFF"]', "keys.yaml:1: is not valid YAML: it has a number that is too large"),
        (r'keys: ["\ud800"]', "keys.yaml:1 keys[0]: is not valid Unicode"),
        (r'{keys: [], "\ud800": x}', "keys.yaml:1 ?: is not valid Unicode"),
        ("keys: \0", "keys.yaml:1: is not valid YAML: it has a character that does not print"),
        ("keys:\n- \ud800", "keys.yaml: is not UTF-8 (line 2)"),
        ("\n" + "[" * 100_000, "keys.yaml:2: is not valid YAML: nested deeper than 36"),
    ],
)
def test_a_file_that_is_none_says_where(text: str, told: str) -> None:
    if "other" in text:
        assert problems(text) == [told, "keys.yaml:1 other: is not a known name here"]
    else:
        assert problems(text) == [told]


PIECES = [*"keys:-[]{}'\"\n #&*!|>%@\\ \t0a,?", "hash: ", "id: ", "\n  - "]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_garbage_is_told_as_such(text: str) -> None:
    try:
        keys = parse_keys(text.encode(), "keys.yaml")
    except ConfigError as error:
        told = error.problems
    else:
        told = ()
        assert keys == ()
    assert all(problem.startswith("keys.yaml:") for problem in told)


@pytest.mark.parametrize("what", ["missing", "directory", "pipe", "large", "nul"])
def test_a_file_that_cannot_be_read_is_told_by_name(tmp_path: Path, what: str) -> None:
    path = tmp_path / ("keys.yaml" if what != "nul" else "keys\0.yaml")
    told = f"{path}: is not a regular file"
    if what == "missing":
        told = f"{path}: does not exist"
    elif what == "directory":
        path.mkdir()
        told = f"{path}: is a directory"
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "large":
        path.write_bytes(b"#" * (BYTES_MAX + 1))
        told = f"{path}: is larger than 1024 KiB"
    else:
        told = f"{path}: is not a path"
    with pytest.raises(ConfigError) as caught:
        load_keys(path)
    assert caught.value.problems == (told,)


def test_nothing_about_a_refused_file_holds_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(f"keys:\n- {{id: a, hash: {CANARY}, tenant: '{CANARY}', x: {HASH}}}\n")
    with pytest.raises(ConfigError) as caught:
        load_keys(path)
    error: BaseException | None = caught.value
    while error is not None:
        assert CANARY not in repr(error) + str(error)
        assert HASH not in repr(error) + str(error)
        error = error.__cause__ or error.__context__
