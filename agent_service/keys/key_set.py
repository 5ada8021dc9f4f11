"""The public keys of an identity provider: a JWKS from a file or a URL, refreshed periodically.

The check of a token never waits for it: `watch` reads every REFRESH_S and, at most every RETRY_S, when a token names an
unknown key. A valid set stays in use until another valid set replaces it: a provider that is unreachable, or answers
with invalid data, does not revoke access.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import httpx2
import jwt

from agent_service.errors import ConfigError
from agent_service.reloading import BYTES_MAX, Log
from agent_service.text.files import Unusable, read_bytes

REFRESH_S = 300.0
RETRY_S = 10.0
TIMEOUT_S = 10.0
# The algorithms of signatures; none with a shared secret, because every verifier of tokens could then forge them.
ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
RSA_BITS_MIN = 2048


class KeySetError(Exception):
    """The set cannot be loaded. The message is one clause, without any of the content."""


class KeySet:
    """The keys by their `kid`. `source` is a path or an http(s) URL; None: the URL that discovery of `issuer`
    returns.
    """

    def __init__(
        self, issuer: str, source: str | None, log: Log, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._issuer = issuer
        self._source = source
        self._log = log
        self._clock = clock
        self._keys: Mapping[str, jwt.PyJWK] = MappingProxyType({})
        self._wanted = asyncio.Event()
        self._content = b""
        self._read_at = -RETRY_S
        self._problem = ""
        self.version = 0

    @property
    def is_known(self) -> bool:
        """Return whether keys were ever loaded."""
        return self.version > 0

    def get(self, kid: str) -> jwt.PyJWK | None:
        """Return the key of this id. The key of a set with only one may be used without an id."""
        if not kid and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    def want(self) -> bool:
        """Request a refresh, because a token names a key that is not in the set. Return whether there will be one."""
        if self._clock() - self._read_at < RETRY_S:
            return False
        self._wanted.set()
        return True

    async def begin(self) -> None:
        """Load the set for the first time. An unreachable provider does not prevent the start.

        Raises:
            ConfigError: the file is missing or has no usable key.
        """
        if not await self.refresh() and self._source is not None and not is_url(self._source):
            raise ConfigError([f"JWT_JWKS: {self._source} {self._problem}"])

    async def watch(self) -> None:
        """Refresh the set until cancelled."""
        while True:
            try:
                async with asyncio.timeout(REFRESH_S if self.is_known else RETRY_S):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            await self.refresh()

    async def refresh(self) -> bool:
        """Load the set now; return whether it is valid. Logs a change, and a problem once."""
        try:
            content = await self._read()
            keys = parse_key_set(content)
        except KeySetError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                self._log.warning("token_keys_refused", source=self._source or self._issuer, problem=self._problem)
            return False
        finally:
            self._wanted.clear()
            self._read_at = self._clock()
        self._problem = ""
        if content != self._content:
            self._content, self._keys = content, keys
            self.version += 1
            self._log.info("token_keys_loaded", source=self._source or self._issuer, keys=len(keys))
        return True

    async def _read(self) -> bytes:
        if self._source is None:
            return await _fetch(await self._discovered())
        if is_url(self._source):
            return await _fetch(self._source)
        return await asyncio.to_thread(_read_file, Path(self._source))

    async def _discovered(self) -> str:
        """Return the URL of the keys by OpenID Connect Discovery 1.0."""
        document = _object(await _fetch(self._issuer.rstrip("/") + "/.well-known/openid-configuration"))
        if document.get("issuer") != self._issuer:
            raise KeySetError("has a discovery document of another issuer")
        url = document.get("jwks_uri")
        if not isinstance(url, str) or not is_url(url) or not is_safe(url):
            raise KeySetError("has a discovery document without an https jwks_uri")
        return url


def is_url(source: str) -> bool:
    """Return whether the source is a URL rather than a file."""
    return source.startswith(("https://", "http://"))


def is_safe(url: str) -> bool:
    """Return whether the answer is protected from tampering in transit: https, or this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in ("localhost", "127.0.0.1", "::1")


def parse_key_set(content: bytes) -> Mapping[str, jwt.PyJWK]:
    """Return the keys that can verify signatures, by `kid` ("" for a key without one). Others are skipped: a set may
    have keys for other uses, and of unknown kinds.

    Raises:
        KeySetError: the content is no JWKS, or has no usable key.
    """
    entries = _object(content).get("keys")
    if not isinstance(entries, list):
        raise KeySetError("is not a JWKS: it has no list `keys`")
    keys = {}
    for entry in entries:
        if key := _usable(entry):
            keys[key.key_id or ""] = key
    if not keys:
        raise KeySetError("has no public key that can verify a signature")
    return MappingProxyType(keys)


def _usable(entry: object) -> jwt.PyJWK | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or "k" in entry:
        return None
    if not isinstance(entry.get("kid", ""), str):
        return None
    public = {name: value for name, value in entry.items() if name not in ("d", "p", "q", "dp", "dq", "qi", "oth")}
    try:
        key = jwt.PyJWK(public)
    except Exception:  # noqa: BLE001 - PyJWT and cryptography raise various errors for foreign bytes
        return None
    if getattr(key.key, "key_size", RSA_BITS_MIN) < RSA_BITS_MIN and key.key_type == "RSA":
        return None
    return key if key.algorithm_name in ALGORITHMS else None


def _object(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise KeySetError("is not a JSON object")
    return document


def _read_file(path: Path) -> bytes:
    try:
        return read_bytes(path, BYTES_MAX)
    except Unusable as error:
        raise KeySetError(str(error)) from None


async def _fetch(url: str) -> bytes:
    """Return the body of an answer with status 200. Does not follow redirects: keys must come from the configured
    URL.
    """
    content = b""
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            httpx2.AsyncClient(timeout=TIMEOUT_S) as client,
            client.stream("GET", url) as response,
        ):
            if response.status_code != 200:
                raise KeySetError(f"answers with status {response.status_code}")
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > BYTES_MAX:
                    raise KeySetError(f"is longer than {BYTES_MAX} bytes")
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError) as error:
        raise KeySetError(f"cannot be reached: {type(error).__name__}") from None
    return content
