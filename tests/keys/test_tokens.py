"""What is taken for a caller's token, and what it allows."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from agent_service.errors import AgentServiceError, AuthenticationError, OverloadedError
from agent_service.keys import tokens as tokens_module
from agent_service.keys.base import Principal, Scope
from agent_service.keys.key_set import KeySet
from agent_service.keys.ring import KeyRing, default_key
from agent_service.keys.tokens import TokenRules, Tokens
from tests.fakes.identity_provider import AUDIENCE, IdentityProvider, edwards, elliptic, rivest

KEY = "a key of the ring"


class Log:
    """Takes what is told of reloads."""

    def info(self, event: str, **fields: Any) -> None: ...

    def warning(self, event: str, **fields: Any) -> None: ...


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


Build = Callable[..., Awaitable[Tokens]]


@pytest.fixture
def provider() -> IdentityProvider:
    return IdentityProvider()


@pytest.fixture
def build(provider: IdentityProvider, tmp_path: Path) -> Build:
    """Tokens that read the provider's keys from a file, with these rules in place of the usual ones."""

    async def build(clock: Callable[[], float] = time.time, monotonic: Clock | None = None, **rules: str) -> Tokens:
        path = tmp_path / "keys.json"
        path.write_bytes(provider.key_set())
        key_set = KeySet(provider.issuer, str(path), Log(), clock=monotonic or Clock())
        await key_set.begin()
        usual = {"issuer": provider.issuer, "audience": AUDIENCE, "tenant_claim": "tenant", "scope_claim": "scope"}
        ring = KeyRing([default_key(KEY)])
        return Tokens(TokenRules(**(usual | rules)), key_set, ring, clock=clock)

    return build


def refusal(tokens: Tokens, token: str) -> AgentServiceError:
    with pytest.raises((AuthenticationError, OverloadedError)) as caught:
        tokens.authenticate(token)
    assert token not in caught.value.message
    return caught.value


async def test_a_token_speaks_for_its_subject_and_tenant(build: Build, provider: IdentityProvider) -> None:
    tokens = await build()

    assert tokens.authenticate(provider.token()) == Principal(
        "acme", "jwt/alice", frozenset({Scope.TASKS_RUN, Scope.TASKS_READ})
    )
    assert tokens.is_valid("jwt/alice")


async def test_api_keys_are_taken_as_before(build: Build) -> None:
    tokens = await build()

    assert tokens.authenticate(KEY).tenant == "default"
    assert refusal(tokens, "another key").reason_name == "API_KEY_INVALID"
    assert (tokens.is_valid("default"), tokens.is_valid("somebody")) == (True, False)


@pytest.mark.parametrize("make", [elliptic, edwards, rivest])
async def test_every_usual_kind_of_key_can_sign(build: Build, provider: IdentityProvider, make: Any) -> None:
    provider.keys = [make()]
    tokens = await build()

    assert tokens.authenticate(provider.token()).tenant == "acme"


async def test_the_only_key_needs_no_name(build: Build, provider: IdentityProvider) -> None:
    tokens = await build()
    unnamed = jwt.encode(
        jwt.decode(provider.token(), options={"verify_signature": False}), provider.keys[0].private, "ES256"
    )

    assert tokens.authenticate(unnamed).key_id == "jwt/alice"


@pytest.mark.parametrize(
    ("claims", "flaw"),
    [
        ({"iss": "https://other.example"}, "is of another issuer"),
        ({"aud": "another-service"}, "is for another audience"),
        ({"aud": None}, "lacks one of the claims exp, iss, aud and sub"),
        ({"iss": None}, "lacks one of the claims exp, iss, aud and sub"),
        ({"exp": None}, "lacks one of the claims exp, iss, aud and sub"),
        ({"sub": None}, "lacks one of the claims exp, iss, aud and sub"),
        ({"sub": ""}, "has a subject that is not 1 to 255 printable ASCII characters"),
        ({"sub": "a b"}, "has a subject that is not 1 to 255 printable ASCII characters"),
        ({"sub": "x" * 256}, "has a subject that is not 1 to 255 printable ASCII characters"),
        ({"nbf": int(time.time()) + 3600}, "is not valid yet"),
        ({"tenant": None}, "has no claim tenant that names a tenant"),
        ({"tenant": ""}, "has no claim tenant that names a tenant"),
        ({"tenant": ["acme"]}, "has no claim tenant that names a tenant"),
        ({"tenant": "*"}, "has no claim tenant that names a tenant"),
        ({"exp": "soon"}, "is not well formed"),
    ],
)
async def test_what_a_token_must_say(
    build: Build, provider: IdentityProvider, claims: dict[str, Any], flaw: str
) -> None:
    error = refusal(await build(), provider.token(**claims))

    assert (error.reason_name, error.message) == ("TOKEN_INVALID", f"the token {flaw}")


async def test_an_expired_token_is_told_so(build: Build, provider: IdentityProvider) -> None:
    error = refusal(await build(), provider.token(exp=int(time.time()) - 60))

    assert error.reason_name == "TOKEN_EXPIRED"


async def test_a_token_that_was_good_ends_with_its_time(build: Build, provider: IdentityProvider) -> None:
    now = [time.time()]
    tokens = await build(clock=lambda: now[0])
    token = provider.token(exp=int(now[0]) - 5)  # within the leeway
    tokens.authenticate(token)

    now[0] += 1
    assert tokens.authenticate(token).key_id == "jwt/alice"

    now[0] += 3600
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens_module, "LEEWAY_S", 0.0)  # as if that hour had passed for the library too
        assert refusal(tokens, token).reason_name == "TOKEN_EXPIRED"


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def test_nobody_signs_for_the_provider(build: Build, provider: IdentityProvider) -> None:
    tokens = await build()
    good = provider.token()
    head, body, signature = good.split(".")
    public = provider.keys[0].private.public_key()
    forged = {
        "another's key of the same name": provider.token(key=elliptic()),
        "other claims": f"{head}.{part({'sub': 'root'})}.{signature}",
        "no signature": f"{head}.{body}.",
        "no algorithm": f"{part({'alg': 'none', 'kid': 'one'})}.{body}.",
        "the public key as a secret": jwt.encode(
            jwt.decode(good, options={"verify_signature": False}),
            str(public.public_numbers().x).encode() * 2,
            "HS256",
            headers={"kid": "one"},
        ),
        "an extension that we do not know": provider.token(headers={"crit": ["x"], "x": True}),
        "a key that it brings itself": provider.token(key=elliptic(), headers={"jwk": elliptic().public}),
    }

    told = {name: refusal(tokens, token).reason_name for name, token in forged.items()}

    assert told == dict.fromkeys(forged, "TOKEN_INVALID")


async def test_a_key_that_is_not_listed_is_looked_for_before_it_is_refused(
    build: Build, provider: IdentityProvider, tmp_path: Path
) -> None:
    monotonic = Clock()
    tokens = await build(monotonic=monotonic)
    new = elliptic("two")
    token = provider.token(key=new)
    assert refusal(tokens, token).reason_name == "TOKEN_INVALID", "the set was read this moment"

    monotonic.now += 11
    error = refusal(tokens, token)
    assert (error.reason_name, error.retry_after_s) == ("TOKEN_KEYS_UNAVAILABLE", 1.0)

    provider.keys.append(new)
    (tmp_path / "keys.json").write_bytes(provider.key_set())
    await tokens._key_set.refresh()
    assert tokens.authenticate(token).tenant == "acme"


async def test_a_key_that_was_withdrawn_opens_nothing_any_more(
    build: Build, provider: IdentityProvider, tmp_path: Path
) -> None:
    tokens = await build()
    token = provider.token()
    tokens.authenticate(token)

    provider.keys = [elliptic("two")]
    (tmp_path / "keys.json").write_bytes(provider.key_set())
    await tokens._key_set.refresh()

    assert refusal(tokens, token).reason_name == "TOKEN_INVALID"


@pytest.mark.parametrize(
    ("scope", "prefix", "scopes"),
    [
        ("tasks.run admin", "", {Scope.TASKS_RUN}),
        ("agents:tasks.run agents:admin tasks.read", "agents:", {Scope.TASKS_RUN, Scope.ADMIN}),
        (["tasks.run", 7, "tools.invoke"], "", {Scope.TASKS_RUN, Scope.TOOLS_INVOKE}),
        ("openid", "", set()),
        (None, "", set()),
        ({"tasks.run": True}, "", set()),
    ],
)
async def test_scopes_are_those_that_are_ours(
    build: Build, provider: IdentityProvider, scope: object, prefix: str, scopes: set[Scope]
) -> None:
    tokens = await build(scope_prefix=prefix)

    assert tokens.authenticate(provider.token(scope=scope)).scopes == scopes


async def test_claims_may_bound_agents_and_tools(build: Build, provider: IdentityProvider) -> None:
    tokens = await build(agents_claim="agents", tools_claim="tools")

    named = tokens.authenticate(provider.token(agents=["assistant"], tools="*"))
    unnamed = tokens.authenticate(provider.token())

    assert (named.agents, named.tools) == (frozenset({"assistant"}), None)
    assert (unnamed.agents, unnamed.tools) == (frozenset(), frozenset())


async def test_what_is_remembered_of_tokens_is_bounded(
    build: Build, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "KNOWN_MAX", 3)
    tokens = await build()

    for subject in "abcde":
        tokens.authenticate(provider.token(sub=subject))

    assert len(tokens._known) == 3
