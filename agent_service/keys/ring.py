"""An immutable set of keys: a change makes a new ring."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from agent_service.errors import AuthenticationError
from agent_service.keys import secret as secret_text
from agent_service.keys.base import Principal, Scope
from agent_service.keys.identity import names_of
from agent_service.v1 import error_reason_pb2 as reasons

HASHES_MAX = 2  # the secret in use, and the one that replaces it
DEFAULT_ID = "default"

_PLAIN = ""  # the public id of keys whose secret has none


@dataclass(frozen=True, slots=True)
class SecretHash:
    """A secret that is accepted, up to and including `not_after` (with a time zone; None: without end).

    `digest` is its SHA-256, 32 bytes.
    """

    digest: bytes = field(repr=False)
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key: its principal, and its credentials: one or two secrets, or the identity in a client certificate.

    `not_after` ends all of them. A disabled key is rejected like an unknown one; its id stays reserved.
    """

    principal: Principal
    public_id: str
    hashes: tuple[SecretHash, ...]
    not_after: datetime | None = None
    disabled: bool = False
    identity: str = ""

    @property
    def expires(self) -> datetime | None:
        """Return the instant after which none of its secrets is accepted; None if there is none."""
        if not self.hashes:
            return self.not_after
        ends = [_earlier(self.not_after, secret_hash.not_after) for secret_hash in self.hashes]
        return None if None in ends else max(end for end in ends if end is not None)


def default_key(api_key: str) -> Key:
    """Return the key of `API_KEY`, which takes a secret of any form: tenant `default`, every scope but admin."""
    principal = Principal(tenant="default", key_id=DEFAULT_ID, scopes=frozenset(Scope) - {Scope.ADMIN})
    return Key(principal, _PLAIN, (SecretHash(secret_text.digest_of(api_key)),))


def utc_now() -> datetime:
    return datetime.now(UTC)


class KeyRing:
    """An immutable set of keys that implements Keys.

    `clock` returns the time with its zone. `compare` returns whether two digests are equal, in a time that does not
    depend on where they differ.

    Raises:
        ValueError: two keys have the same public id, or a key has neither hash nor identity, or more than HASHES_MAX.
    """

    def __init__(
        self,
        keys: Iterable[Key],
        *,
        clock: Callable[[], datetime] = utc_now,
        compare: Callable[[bytes, bytes], bool] = hmac.compare_digest,
    ) -> None:
        self._keys: dict[str, Key] = {}
        for key in keys:
            if key.public_id in self._keys:
                raise ValueError("two keys have the same public id")
            if not (key.hashes or key.identity) or len(key.hashes) > HASHES_MAX:
                raise ValueError(f"a key must have 1 to {HASHES_MAX} hashes, or an identity")
            self._keys[key.public_id] = key
        self._identities = {key.identity: key for key in self if key.identity}
        self._clock = clock
        self._compare = compare
        self._nothing = SecretHash(secrets.token_bytes(32))  # a digest that matches no known secret

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)

    def authenticate(self, secret: str) -> Principal:
        """See `Keys`. Every call makes HASHES_MAX comparisons, with or without a key of this id."""
        public_id = secret_text.parse(secret)
        key = self._keys.get(public_id) if public_id is not None else None
        if key is None:
            key = self._keys.get(_PLAIN)  # its secret may have any form
        matched = self._match(secret_text.digest_of(secret), key.hashes if key else ())
        if key is None or matched is None or key.disabled:
            raise AuthenticationError(reasons.ERROR_REASON_API_KEY_INVALID, "the key is not known")
        return self._unless_expired(key, _earlier(key.not_after, matched.not_after))

    def identify(self, identities: Sequence[str]) -> Principal | None:
        """See `Keys`. The most specific of the known identities decides."""
        found = [name for identity in identities for name in names_of(identity) if name in self._identities]
        key = self._identities[min(found, key=_vagueness)] if found else None
        return None if key is None or key.disabled else self._unless_expired(key, key.not_after)

    def is_valid(self, key_id: str) -> bool:
        """See `Keys`."""
        return any(
            not key.disabled and (key.expires is None or self._clock() <= key.expires)
            for key in self
            if key.principal.key_id == key_id
        )

    def _unless_expired(self, key: Key, not_after: datetime | None) -> Principal:
        if not_after is not None and self._clock() > not_after:
            raise AuthenticationError(
                reasons.ERROR_REASON_API_KEY_EXPIRED,
                "the key has expired",
                metadata={"key_id": key.principal.key_id},
            )
        return key.principal

    def _match(self, digest: bytes, hashes: tuple[SecretHash, ...]) -> SecretHash | None:
        matched = None
        for index in range(HASHES_MAX):
            candidate = hashes[index] if index < len(hashes) else self._nothing
            if self._compare(digest, candidate.digest):
                matched = candidate
        return matched


def _vagueness(name: str) -> tuple[bool, int]:
    """Return the sort key that puts a full identity before prefixes with `*`, and longer prefixes first."""
    return name.endswith("*"), -len(name)


def _earlier(first: datetime | None, second: datetime | None) -> datetime | None:
    if first is None or second is None:
        return first or second
    return min(first, second)
