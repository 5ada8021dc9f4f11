"""An identity provider on loopback: discovery, public keys, and tokens signed with keys of its own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "agent-service"


@dataclass
class SigningKey:
    """A private key with the `kid` under which its public half is listed."""

    kid: str
    private: Any
    algorithm: str

    @property
    def public(self) -> dict[str, Any]:
        kinds: dict[str, Any] = {"RS": RSAAlgorithm, "PS": RSAAlgorithm, "ES": ECAlgorithm, "Ed": OKPAlgorithm}
        jwk: dict[str, Any] = kinds[self.algorithm[:2]].to_jwk(self.private.public_key(), as_dict=True)
        return jwk | {"kid": self.kid, "use": "sig", "alg": self.algorithm}


def elliptic(kid: str = "one") -> SigningKey:
    return SigningKey(kid, ec.generate_private_key(ec.SECP256R1()), "ES256")


def edwards(kid: str = "edwards") -> SigningKey:
    return SigningKey(kid, ed25519.Ed25519PrivateKey.generate(), "EdDSA")


def rivest(kid: str = "rivest", bits: int = 2048) -> SigningKey:
    return SigningKey(kid, rsa.generate_private_key(65537, bits), "RS256")


@dataclass
class IdentityProvider:
    """`keys` are listed; `requests` are the paths that were asked for. `answers` replace what a path would answer."""

    issuer: str = "https://id.example"
    keys: list[SigningKey] = field(default_factory=lambda: [elliptic()])
    requests: list[str] = field(default_factory=list)
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def token(self, *, key: SigningKey | None = None, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A good token for an hour, with these claims in place of its own; None leaves one out."""
        key = key or self.keys[0]
        now = int(time.time())
        whole = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "alice",
            "iat": now,
            "exp": now + 3600,
            "tenant": "acme",
            "scope": "openid tasks.run tasks.read",
        } | claims
        told = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(told, key.private, key.algorithm, headers={"kid": key.kid} | (headers or {}))

    def key_set(self) -> bytes:
        return json.dumps({"keys": [key.public for key in self.keys]}).encode()

    def answer(self, path: str) -> tuple[int, bytes]:
        if path in self.answers:
            return self.answers[path]
        if path == "/.well-known/openid-configuration":
            return 200, json.dumps({"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}).encode()
        return (200, self.key_set()) if path == "/keys" else (404, b"")


@asynccontextmanager
async def serving(provider: IdentityProvider) -> AsyncIterator[IdentityProvider]:
    """Serve it; its issuer becomes its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        provider.requests.append(path)
        status, body = provider.answer(path)
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        provider.issuer = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield provider
