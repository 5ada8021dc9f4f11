"""Whose key it is."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta

import pytest

from agent_service.errors import AuthenticationError
from agent_service.keys.base import Principal, Scope
from agent_service.keys.ring import Key, KeyRing, SecretHash, default_key
from agent_service.keys.secret import digest_of, generate, public_id_of

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ID = "ci-2026"
SECRET = generate(public_id_of(ID))
OTHER = generate(public_id_of(ID))
PLAIN = "correct-horse-battery-staple-0001"
ACME = Principal("acme", ID, frozenset({Scope.TASKS_RUN}), agents=frozenset({"assistant"}))


def key(*hashes: SecretHash, not_after: datetime | None = None, disabled: bool = False) -> Key:
    return Key(ACME, public_id_of(ID), hashes or (SecretHash(digest_of(SECRET)),), not_after, disabled)


def ring(*keys: Key, now: datetime = NOW) -> KeyRing:
    return KeyRing(keys, clock=lambda: now)


def reason(keys: KeyRing, secret: str) -> str:
    with pytest.raises(AuthenticationError) as caught:
        keys.authenticate(secret)
    assert secret not in caught.value.message or not secret
    return caught.value.reason_name


def test_a_secret_proves_whose_it_is() -> None:
    assert ring(key()).authenticate(SECRET) == ACME


def test_the_plain_key_is_the_default_tenant_with_every_scope_but_admin() -> None:
    principal = ring(default_key(PLAIN), key()).authenticate(PLAIN)
    assert (principal.tenant, principal.key_id) == ("default", "default")
    assert principal.scopes == frozenset(Scope) - {Scope.ADMIN}
    assert principal.may_use_agent("any")
    assert principal.may_use_tool("any")


def test_the_plain_key_may_look_like_any_other_secret() -> None:
    secret = generate("AbcDef012345")
    assert ring(default_key(secret), key()).authenticate(secret).tenant == "default"


WRONG = {
    "empty": "",
    "unknown": generate("AbcDef012345"),
    "right public id, other secret": OTHER,
    "a typing error": SECRET[:-1] + ("a" if SECRET[-1] != "a" else "b"),
    "cut": SECRET[:-1],
    "longer": SECRET + "a",
    "space before": " " + SECRET,
    "newline after": SECRET + "\n",
    "other case": SECRET.swapcase(),
    "public id alone": public_id_of(ID),
    "key id": ID,
    "its hash": f"sha256:{digest_of(SECRET).hex()}",
    "plain, other case": PLAIN.upper(),
    "plain, cut": PLAIN[:-1],
    "plain, longer": PLAIN + "\0",
    "not ascii": "ключ",
    "half a surrogate": "ask_\ud800",
    "long": "a" * 10_000,
}


@pytest.mark.parametrize("secret", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_secret_is_invalid(secret: str) -> None:
    assert reason(ring(default_key(PLAIN), key()), secret) == "API_KEY_INVALID"
    assert reason(ring(), secret) == "API_KEY_INVALID"


@pytest.mark.parametrize("ends", ["key", "hash"])
def test_a_key_is_valid_until_its_not_after_and_expired_then(ends: str) -> None:
    expiring = key(not_after=NOW) if ends == "key" else key(SecretHash(digest_of(SECRET), NOW))
    assert ring(expiring, now=NOW).authenticate(SECRET) == ACME
    with pytest.raises(AuthenticationError) as caught:
        ring(expiring, now=NOW + timedelta(microseconds=1)).authenticate(SECRET)
    assert caught.value.reason_name == "API_KEY_EXPIRED"
    assert caught.value.metadata == {"key_id": ID}


def test_the_earlier_of_both_ends_counts() -> None:
    later = NOW + 10 * SECOND
    for expiring in (
        key(SecretHash(digest_of(SECRET), NOW), not_after=later),
        key(SecretHash(digest_of(SECRET), later), not_after=NOW),
    ):
        assert reason(ring(expiring, now=NOW + SECOND), SECRET) == "API_KEY_EXPIRED"


def test_only_the_right_secret_learns_that_a_key_expired() -> None:
    assert reason(ring(key(not_after=NOW - SECOND)), OTHER) == "API_KEY_INVALID"


def test_two_secrets_are_good_while_one_replaces_the_other() -> None:
    rotating = key(SecretHash(digest_of(SECRET), NOW), SecretHash(digest_of(OTHER)))
    assert ring(rotating).authenticate(SECRET) == ACME
    assert ring(rotating).authenticate(OTHER) == ACME
    later = ring(rotating, now=NOW + SECOND)
    assert reason(later, SECRET) == "API_KEY_EXPIRED"
    assert later.authenticate(OTHER) == ACME


def test_a_disabled_key_is_unknown() -> None:
    assert reason(ring(key(disabled=True, not_after=NOW - SECOND)), SECRET) == "API_KEY_INVALID"


@pytest.mark.parametrize(
    "secret",
    [SECRET, OTHER, generate("AbcDef012345"), "", "nonsense", PLAIN],
    ids=["right", "wrong", "unknown", "empty", "nonsense", "plain"],
)
@pytest.mark.parametrize("plain", [True, False])
def test_every_call_compares_as_often_as_any_other(secret: str, plain: bool) -> None:
    compared: list[bool] = []

    def compare(one: bytes, other: bytes) -> bool:
        assert len(one) == len(other) == 32
        compared.append(hmac.compare_digest(one, other))
        return compared[-1]

    keys = KeyRing([key(), *([default_key(PLAIN)] if plain else [])], compare=compare)
    try:
        keys.authenticate(secret)
    except AuthenticationError:
        assert not any(compared)
    assert len(compared) == 2


def test_expires_tells_when_the_last_secret_ends() -> None:
    assert key().expires is None
    assert key(not_after=NOW).expires == NOW
    first, second = SecretHash(b"1", NOW), SecretHash(b"2", NOW + SECOND)
    assert key(first, second).expires == NOW + SECOND
    assert key(first, second, not_after=NOW - SECOND).expires == NOW - SECOND
    assert key(first, SecretHash(b"3")).expires is None


def test_a_ring_is_refused_whose_keys_cannot_be_told_apart() -> None:
    with pytest.raises(ValueError, match="public id"):
        ring(key(), key())
    with pytest.raises(ValueError, match="hashes"):
        ring(key(*(SecretHash(bytes([number])) for number in range(3))))


def test_a_key_does_not_show_its_hash() -> None:
    shown = repr(key()) + repr(list(ring(key()))) + repr(ring(key()))
    assert digest_of(SECRET).hex() not in shown
    assert repr(digest_of(SECRET)) not in shown
