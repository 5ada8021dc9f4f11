"""Estimates token counts if a provider reports none.

A model's own tokenizer would be exact, but needs a vocabulary of megabytes for each family of models, and is about ten
times slower than an estimate. So the estimate weighs characters by their kind, with weights for each family that err
high for what people, programs and models write. Measured, estimate divided by truth:

    text                     o200k        cl100k       Llama 3      Qwen 3
    English prose            1.37         1.45         1.45         1.70
    other languages, Latin   1.17 - 1.65  1.03 - 1.38  1.06 - 2.47  1.13 - 2.55
    Cyrillic, Greek, Arabic  1.28 - 1.98  1.02 - 2.24  1.02 - 3.46  1.26 - 3.41
    Indian scripts, Thai     2.22 - 3.30  1.20 - 1.72  1.20 - 3.80  1.56 - 2.94
    Chinese, Japanese, Hangul  1.28 - 1.55  1.48 - 1.64  2.13 - 2.60  2.31 - 2.91
    program code             1.04 - 1.54  1.04 - 1.62  1.04 - 1.62  1.40 - 1.95
    JSON, logs, tables       1.05 - 1.54  1.07 - 1.52  1.07 - 1.52  1.10 - 1.63
    UUIDs, hexadecimal       1.02 - 1.13  1.02 - 1.16  1.02 - 1.16  1.00

A single UUID may be counted a third too low: these are means of 200. It errs low for base64 (0.68 to 0.93) and for rows
of emoji (0.88 and more).
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from dataclasses import dataclass

from agent_service.llm.base import ToolSpec

BYTES_PER_TOKEN = 3
# Roles, separators and ids that a provider counts besides the text of a message or a tool.
MESSAGE_TOKENS = 6

_WORDS = (string.ascii_lowercase + " ").encode()
_DIGITS = string.digits.encode()
_BEYOND_ASCII = bytes(range(0x80, 0x100))


@dataclass(frozen=True, slots=True)
class Estimate:
    """Weights of one family of models, in hundredths of a token: for an ASCII lower-case letter or a blank, a digit,
    any other ASCII character, a non-ASCII character, and each byte of a non-ASCII character after its first.
    """

    word: int
    digit: int
    sign: int
    wide: int
    wide_byte: int

    def tokens(self, text: str) -> int:
        """Return the estimated number of tokens of the text."""
        data = text.encode()
        rest = data.translate(None, _WORDS)
        signs = rest.translate(None, _DIGITS)
        hundredths = (len(data) - len(rest)) * self.word + (len(rest) - len(signs)) * self.digit
        if len(data) == len(text):
            hundredths += len(signs) * self.sign
        else:
            of_ascii, more = len(signs.translate(None, _BEYOND_ASCII)), len(data) - len(text)
            hundredths += of_ascii * self.sign
            hundredths += (len(signs) - of_ascii - more) * self.wide + more * self.wide_byte
        return -(-hundredths // 100)

    def tools_tokens(self, tools: Iterable[ToolSpec]) -> int:
        """Return the estimated number of tokens that describe the tools."""
        return sum(
            self.tokens(spec.description) + self.tokens(spec.input_schema_json) + MESSAGE_TOKENS for spec in tools
        )


O200K = Estimate(word=31, digit=86, sign=54, wide=0, wide_byte=55)
CL100K = Estimate(word=34, digit=86, sign=50, wide=55, wide_byte=62)
# No other vocabulary that was measured takes more.
ANY = Estimate(word=36, digit=120, sign=82, wide=55, wide_byte=62)

# By names of models; the first match counts.
_FAMILIES = (
    (re.compile(r"(chat)?gpt-4o|gpt-4\.[15]|gpt-[5-9]|gpt-oss|o[1-9](-|$)"), O200K),
    (re.compile(r"gpt-4|gpt-35|gpt-3\.5|(meta-)?llama-?3"), CL100K),
)


def estimate_for(model_id: str) -> Estimate:
    """Return the estimate for a provider's model name, such as `gpt-4o-mini` or `meta-llama/Llama-3.1-8B`."""
    name = model_id.lower().rpartition("/")[2]
    return next((estimate for pattern, estimate in _FAMILIES if pattern.match(name)), ANY)


def tokens_in(utf8_bytes: int) -> int:
    """Estimate the tokens of this many bytes, if the text is not available: right for prose and code, too low for JSON
    and digits.
    """
    return -(-utf8_bytes // BYTES_PER_TOKEN)


def utf8_length(text: str) -> int:
    """Return the length of the text in UTF-8, without encoding it if it is ASCII."""
    return len(text) if text.isascii() else len(text.encode())
