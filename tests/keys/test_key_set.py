"""The public keys of a provider, out of a file or over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from agent_service.errors import ConfigError
from agent_service.keys.key_set import KeySet, KeySetError, parse_key_set
from agent_service.reloading import BYTES_MAX
from tests.fakes.identity_provider import IdentityProvider, elliptic, rivest, serving


class Log:
    """Keeps events as (event, fields); `loaded` is set once a set of keys was."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.loaded = asyncio.Event()

    def info(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))
        self.loaded.set()

    def warning(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    @property
    def problems(self) -> list[str]:
        return [fields["problem"] for event, fields in self.events if event == "token_keys_refused"]


async def test_discovery_leads_from_the_issuer_to_its_keys() -> None:
    async with serving(IdentityProvider()) as provider:
        key_set = KeySet(provider.issuer, None, Log())
        await key_set.begin()

    assert provider.requests == ["/.well-known/openid-configuration", "/keys"]
    assert key_set.get("one") is not None


async def test_a_url_is_asked_directly() -> None:
    async with serving(IdentityProvider()) as provider:
        key_set = KeySet("https://id.example", f"{provider.issuer}/keys", Log())
        await key_set.begin()

    assert (provider.requests, key_set.is_known) == (["/keys"], True)


async def test_a_provider_that_is_away_at_the_start_is_asked_again() -> None:
    log = Log()
    async with serving(IdentityProvider()) as provider:
        provider.answers["/keys"] = (503, b"")
        key_set = KeySet(provider.issuer, None, log)
        await key_set.begin()
        assert not key_set.is_known

        del provider.answers["/keys"]
        watching = asyncio.create_task(key_set.watch())
        key_set._read_at = -1000.0
        assert key_set.want()
        async with asyncio.timeout(30):
            await log.loaded.wait()
        watching.cancel()

    assert log.problems == ["answers with status 503"]


@pytest.mark.parametrize(
    ("path", "answer", "problem"),
    [
        ("/keys", (302, b""), "answers with status 302"),
        ("/keys", (200, b"<html>"), "is not a JSON object"),
        ("/keys", (200, b"[" * 100_000), "is not a JSON object"),
        ("/keys", (200, b"{}"), "is not a JWKS: it has no list `keys`"),
        ("/keys", (200, b'{"keys": []}'), "has no public key that can verify a signature"),
        ("/keys", (200, b" " * (BYTES_MAX + 1)), f"is longer than {BYTES_MAX} bytes"),
        (
            "/.well-known/openid-configuration",
            (200, b'{"issuer": "https://other.example"}'),
            "has a discovery document of another issuer",
        ),
    ],
)
async def test_what_was_good_stays_until_something_better_is_there(
    path: str, answer: tuple[int, bytes], problem: str
) -> None:
    log = Log()
    async with serving(IdentityProvider()) as provider:
        key_set = KeySet(provider.issuer, None, log)
        await key_set.begin()

        provider.answers[path] = answer
        assert not await key_set.refresh()
        assert not await key_set.refresh()

    assert key_set.get("one") is not None
    assert log.problems == [problem], "told once"


@pytest.mark.parametrize("url", ["http://id.example/keys", "file:///etc/passwd", "", 7])
async def test_discovery_may_not_lead_where_anybody_can_answer(url: object) -> None:
    log = Log()
    async with serving(IdentityProvider()) as provider:
        document = json.dumps({"issuer": provider.issuer, "jwks_uri": url}).encode()
        provider.answers["/.well-known/openid-configuration"] = (200, document)
        await KeySet(provider.issuer, None, log).begin()

    assert log.problems == ["has a discovery document without an https jwks_uri"]


async def test_a_connection_that_nobody_takes_is_a_problem_in_few_words() -> None:
    log = Log()
    async with serving(IdentityProvider()) as provider:
        issuer = provider.issuer
    await KeySet(issuer, None, log).begin()

    assert log.problems == ["cannot be reached: ConnectError"]


async def test_a_file_must_be_there_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^JWT_JWKS: .*keys.json does not exist$"):
        await KeySet("https://id.example", str(tmp_path / "keys.json"), Log()).begin()


async def test_a_file_is_read_again(tmp_path: Path) -> None:
    provider, path, log = IdentityProvider(), tmp_path / "keys.json", Log()
    path.write_bytes(provider.key_set())
    key_set = KeySet(provider.issuer, str(path), log)
    await key_set.begin()

    provider.keys = [elliptic("two")]
    path.write_bytes(provider.key_set())
    await key_set.refresh()
    await key_set.refresh()

    assert (key_set.get("one"), key_set.version) == (None, 2)
    assert [event for event, _ in log.events] == ["token_keys_loaded"] * 2


def test_keys_that_cannot_check_a_signature_are_passed_over() -> None:
    good = elliptic("good").public
    entries = [
        good,
        elliptic("cipher").public | {"use": "enc"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared", "alg": "HS256"},
        rivest("short", 1024).public,
        {"kty": "EC", "crv": "P-256", "kid": "half"},
        {"kty": "new"},
        good | {"kid": 7},
        good | {"kid": "odd", "alg": "none"},
        "text",
    ]

    assert list(parse_key_set(json.dumps({"keys": entries}).encode())) == ["good"]


def test_a_private_key_in_the_set_serves_as_its_public_half() -> None:
    key = rivest("leaked")
    private = key.public | {"d": "AQAB", "p": "AQAB"}

    assert list(parse_key_set(json.dumps({"keys": [private]}).encode())) == ["leaked"]


def test_a_problem_repeats_nothing_of_what_was_read() -> None:
    with pytest.raises(KeySetError) as caught:
        parse_key_set(b'{"keys": ["a secret"]}')

    assert "a secret" not in str(caught.value)


async def test_a_pipe_is_no_file_of_keys_and_nobody_waits_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "keys")

    with pytest.raises(ConfigError, match="not a regular file"):
        await KeySet("https://id.example", str(tmp_path / "keys"), Log()).begin()
