"""Token counts where a provider reports none.

One rule for all: a token for every 3 bytes of UTF-8, rounded up. English prose has 4 to 5 bytes to a token, code and
JSON 3 to 4, and other scripts 3 and more with today's vocabularies, so the estimate errs high for what people and
models write. It errs low for random text (base64, hashes), which has about 2.
"""

from __future__ import annotations

BYTES_PER_TOKEN = 3


def tokens_in(utf8_bytes: int) -> int:
    """The tokens that so many bytes of text are taken to be."""
    return -(-utf8_bytes // BYTES_PER_TOKEN)


def utf8_length(text: str) -> int:
    """The bytes of the text in UTF-8, without encoding it where it is ASCII."""
    return len(text) if text.isascii() else len(text.encode())
