"""The format of API keys, `ask_<12 public id><…>`: recognisable, with a checksum, and with an id for the lookup.

    ask_7QmZ0aBcD3fX_Vb…(32 random characters)…k9Lw2Qa
        └ public id  └ random                  └ CRC-32 of all before it, 6 characters

All parts are base62 (0-9, A-Z, a-z). The public id identifies the key and may be shown; the rest is the secret, of
about 190 bits. This module does not depend on permissions.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib

PREFIX = "ask_"
PUBLIC_ID_LENGTH = 12

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_LENGTH = 32
_CHECK_LENGTH = 6  # 62 ** 6 > 2 ** 32
_SECRET = re.compile(r"ask_([0-9A-Za-z]{12})_[0-9A-Za-z]{30,}([0-9A-Za-z]{6})", re.ASCII)
_PUBLIC_ID = re.compile(r"[0-9A-Za-z]{12}", re.ASCII)
_HASH = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)


def new_public_id() -> str:
    """Return a new unique public id."""
    return _random(PUBLIC_ID_LENGTH)


def public_id_of(key_id: str) -> str:
    """Return the public id in the secrets of the key with this id: the id itself if it has that form, else derived from
    it.

    So ids can be words, a key keeps its public id when its secret changes, and files need not store both.
    """
    if _PUBLIC_ID.fullmatch(key_id):
        return key_id
    return _base62(int.from_bytes(digest_of(key_id)), PUBLIC_ID_LENGTH)


def generate(public_id: str) -> str:
    """Return a new secret for the key with this public id."""
    text = f"{PREFIX}{public_id}_{_random(_RANDOM_LENGTH)}"
    return text + _check(text)


def parse(text: str) -> str | None:
    """Return the public id of a well-formed secret; None for any other text, such as one with a typing error."""
    match = _SECRET.fullmatch(text)
    if match is None or match[2] != _check(text[:-_CHECK_LENGTH]):
        return None
    return match[1]


def digest_of(text: str) -> bytes:
    """Return the SHA-256 of a text, 32 bytes. Secrets are random enough that a slow hash adds no security."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def hash_text(text: str) -> str:
    """Return the SHA-256 of a secret in the format of files: `sha256:<64 hex digits>`."""
    return f"sha256:{digest_of(text).hex()}"


def parse_hash(text: str) -> bytes | None:
    """Return the digest that `hash_text` wrote; None for any other text."""
    match = _HASH.fullmatch(text)
    return bytes.fromhex(match[1]) if match else None


def _random(length: int) -> str:
    return "".join(secrets.choice(_BASE62) for _ in range(length))


def _check(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECK_LENGTH)


def _base62(number: int, length: int) -> str:
    """Return the lowest `length` digits of a number, highest first."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
