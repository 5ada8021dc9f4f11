"""JSON Web Tokens of one identity provider beside API keys, by OpenID Connect and RFC 9068.

A token is verified once and then cached until it expires: a signature costs ten times as much as the rest of
authentication. Nothing here waits for the provider.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from agent_service.errors import AuthenticationError, OverloadedError
from agent_service.keys.base import Keys, Principal, Scope
from agent_service.keys.key_set import ALGORITHMS, RETRY_S, KeySet
from agent_service.text.ids import is_id
from agent_service.v1 import error_reason_pb2 as reasons

LEEWAY_S = 10.0
KNOWN_MAX = 10_000
SUBJECT_PREFIX = "jwt/"  # cannot collide: ids in a file of keys have no slash

# A signed token in its compact form: three parts, the first the base64 of `{"…`.
_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)
_SUBJECT = re.compile(r"[!-~]{1,255}", re.ASCII)
_SCOPES: Mapping[str, Scope] = {scope.value: scope for scope in Scope}


@dataclass(frozen=True, slots=True)
class TokenRules:
    """The required claims of a token, and the names of the claims that are read.

    `scope_prefix` precedes our scopes in `scope_claim` and is removed. Without a prefix, `admin` is ignored: other
    services of the same provider use that word. `agents_claim` and `tools_claim` list the names that may be used ("*":
    all); where the name of the claim is empty, all may be used.
    """

    issuer: str
    audience: str
    tenant_claim: str
    scope_claim: str
    scope_prefix: str = ""
    agents_claim: str = ""
    tools_claim: str = ""


class Tokens:
    """The Keys of `others`, and tokens that are signed by a key of `key_set`."""

    def __init__(
        self, rules: TokenRules, key_set: KeySet, others: Keys, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._rules = rules
        self._key_set = key_set
        self._others = others
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        self._version = key_set.version

    def authenticate(self, secret: str) -> Principal:
        """See `Keys`; a text in the form of a token is treated as one.

        Raises:
            AuthenticationError: TOKEN_INVALID or TOKEN_EXPIRED too.
            OverloadedError: TOKEN_KEYS_UNAVAILABLE: the provider's keys are not loaded yet, or are being refreshed.
        """
        if not _TOKEN.fullmatch(secret):
            return self._others.authenticate(secret)
        if self._version != self._key_set.version:
            self._known.clear()  # a key may have been withdrawn
            self._version = self._key_set.version
        digest = hashlib.sha256(secret.encode()).digest()
        if known := self._known.get(digest):
            principal, ends = known
            if self._clock() < ends:
                self._known.move_to_end(digest)
                return principal
            del self._known[digest]
        principal, ends = self._check(secret)
        self._known[digest] = principal, ends
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return principal

    def identify(self, identities: Sequence[str]) -> Principal | None:
        """See `Keys`."""
        return self._others.identify(identities)

    def is_valid(self, key_id: str) -> bool:
        """See `Keys`. A subject stays valid: its tokens expire, and the provider issues new ones."""
        return key_id.startswith(SUBJECT_PREFIX) or self._others.is_valid(key_id)

    def _check(self, token: str) -> tuple[Principal, float]:
        rules = self._rules
        try:
            claims = jwt.decode(
                token,
                self._key(token),
                algorithms=ALGORITHMS,
                issuer=rules.issuer,
                audience=rules.audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise AuthenticationError(reasons.ERROR_REASON_TOKEN_EXPIRED, "the token has expired") from None
        except jwt.InvalidTokenError as error:
            raise _invalid(_FLAWS.get(type(error), "is not well formed")) from None
        return self._principal(claims), float(claims["exp"]) + LEEWAY_S

    def _key(self, token: str) -> jwt.PyJWK:
        kid = jwt.get_unverified_header(token).get("kid", "")
        key = self._key_set.get(kid)
        if key is not None:
            return key
        if self._key_set.want() or not self._key_set.is_known:
            raise OverloadedError(
                reasons.ERROR_REASON_TOKEN_KEYS_UNAVAILABLE,
                "the keys that verify tokens are being fetched",
                retry_after_s=1.0 if self._key_set.is_known else RETRY_S,
            )
        raise _invalid("is signed with a key that the provider does not list")

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        rules = self._rules
        subject, tenant = claims["sub"], claims.get(rules.tenant_claim)
        if not _SUBJECT.fullmatch(subject):
            raise _invalid("has a subject that is not 1 to 255 printable ASCII characters")
        if not isinstance(tenant, str) or not is_id(tenant):
            raise _invalid(f"has no claim {rules.tenant_claim} that names a tenant")
        return Principal(
            tenant,
            SUBJECT_PREFIX + subject,
            self._scopes(claims.get(rules.scope_claim)),
            _allowed(claims, rules.agents_claim),
            _allowed(claims, rules.tools_claim),
        )

    def _scopes(self, claim: object) -> frozenset[Scope]:
        prefix = self._rules.scope_prefix
        named = {word.removeprefix(prefix) for word in _words(claim) if word.startswith(prefix)}
        if not prefix:
            named.discard(Scope.ADMIN)
        return frozenset(_SCOPES[name] for name in named & _SCOPES.keys())


def _allowed(claims: Mapping[str, Any], claim: str) -> frozenset[str] | None:
    if not claim:
        return None
    names = frozenset(_words(claims.get(claim)))
    return None if "*" in names else names


def _words(claim: object) -> Iterable[str]:
    """Return the values of a claim: a list, or a text separated by spaces (RFC 8693, 4.2)."""
    if isinstance(claim, str):
        return claim.split()
    return [word for word in claim if isinstance(word, str)] if isinstance(claim, list) else ()


def _invalid(flaw: str) -> AuthenticationError:
    return AuthenticationError(reasons.ERROR_REASON_TOKEN_INVALID, f"the token {flaw}")


_FLAWS: Mapping[type[Exception], str] = {
    jwt.InvalidSignatureError: "has an invalid signature",
    jwt.InvalidAlgorithmError: "is signed with an algorithm that its key does not support",
    jwt.InvalidIssuerError: "is of another issuer",
    jwt.InvalidAudienceError: "is for another audience",
    jwt.ImmatureSignatureError: "is not valid yet",
    jwt.InvalidIssuedAtError: "has a time of issue that is not a number",
    jwt.MissingRequiredClaimError: "lacks one of the claims exp, iss, aud and sub",
}
