"""Identities in certificates, and the names in a file of keys that stand for them."""

from __future__ import annotations

import pytest

from agent_service.errors import AuthenticationError, ConfigError
from agent_service.keys.file import parse_keys
from agent_service.keys.identity import DEPTH_MAX, identities, valid_name
from agent_service.keys.ring import KeyRing

RULE = "must be a URI such as spiffe://domain/path, which may end in /*, or dns: and a host name"


@pytest.mark.parametrize(
    "name",
    [
        "spiffe://prod/ns/agents/sa/worker",
        "spiffe://prod",
        "spiffe://prod/*",
        "spiffe://prod/ns/agents/*",
        "https://ci.example:8443/repo/main?x=1",
        "dns:worker.example",
        "dns:localhost",
    ],
)
def test_a_name_is_a_uri_in_full_or_up_to_a_part_of_its_path_or_a_host(name: str) -> None:
    assert valid_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "*",
        "worker",
        "spiffe://*",
        "spiffe://prod*",
        "spiffe://prod/ns*",
        "spiffe://*/ns",
        "spiffe://prod/*/sa",
        "spiffe://prod/ns/**",
        "spiffe:///ns",
        "SPIFFE://prod/ns",
        "spiffe://prod/n s",
        "spiffe://prod/ns\n",
        "spiffe://prod/é",
        "dns:",
        "dns:*.example",
        "dns:Worker.example",
        "spiffe://prod/" + "x" * 2048,
        "spiffe://prod" + "/x" * (DEPTH_MAX + 1),
    ],
)
def test_anything_else_is_told_by_the_rule(name: str) -> None:
    with pytest.raises(ValueError, match="must be a URI") as refused:
        valid_name(name)
    assert str(refused.value) == RULE


def test_of_a_certificate_uris_with_a_host_and_host_names_count() -> None:
    found = identities([b"spiffe://prod/a", b"urn:uuid:1", b"dns:worker.example"], [b"Worker.example"])
    assert found == ["spiffe://prod/a", "dns:worker.example"]


def ring(*names: str) -> KeyRing:
    entries = [
        f"- {{id: k{index}, identity: '{name}', tenant: t{index}, scopes: [tasks.run]}}\n"
        for index, name in enumerate(names)
    ]
    return KeyRing(parse_keys(f"keys:\n{''.join(entries)}".encode(), "keys.yaml"))


@pytest.mark.parametrize(
    ("identity", "tenant"),
    [
        ("spiffe://prod/a/b/c", "t0"),
        ("spiffe://prod/a/b/d", "t1"),
        ("spiffe://prod/a/b/c/d", "t1"),
        ("spiffe://prod/z", "t2"),
        ("spiffe://prod/", "t2"),
        ("spiffe://prod", None),
        ("spiffe://prod2/z", None),
        ("spiffe://prod" + "/x" * 10_000, "t2"),
        ("://", None),
        ("dns:", None),
    ],
)
def test_the_most_exact_name_decides(identity: str, tenant: str | None) -> None:
    principal = ring("spiffe://prod/a/b/c", "spiffe://prod/a/b/*", "spiffe://prod/*").identify([identity])
    assert (principal.tenant if principal else None) == tenant


def test_two_entries_cannot_have_one_identity_nor_one_entry_two_proofs() -> None:
    with pytest.raises(ConfigError) as refused:
        ring("spiffe://prod/a", "spiffe://prod/a")
    assert refused.value.problems == ("keys.yaml:3 keys[1].identity: must be unique: line 2 has the same identity",)
    text = f"keys: [{{id: a, identity: 'spiffe://prod/a', hash: 'sha256:{'0' * 64}', tenant: t, scopes: [tasks.run]}}]"
    with pytest.raises(ConfigError) as refused:
        parse_keys(text.encode(), "keys.yaml")
    assert refused.value.problems == ("keys.yaml:1 keys[0]: must have exactly one of hash, hashes and identity",)


def test_an_entry_with_an_identity_is_a_valid_key_that_no_secret_opens() -> None:
    keys = ring("spiffe://prod/a")
    assert keys.is_valid("k0")
    with pytest.raises(AuthenticationError):
        keys.authenticate("spiffe://prod/a")
