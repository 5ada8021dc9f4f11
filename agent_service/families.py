"""Defaults of a model, derived from its provider's name of it.

They depend on the generation in the name, so that a future model gets the defaults of the newest known one. An
unrecognised name is taken for a self-hosted model: parameters that it might refuse are not sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

# OpenAI's names: gpt-4o, gpt-5.6-terra, chatgpt-4o-latest, o3-mini, ft:gpt-4o-mini:acme::x, openai/gpt-6-luna.
_GPT = re.compile(r"(?:chat)?gpt-?(\d+)(?:\.(\d+))?(.*)")
_O_SERIES = re.compile(r"o\d+(?:-.*)?")
# Open weights, which are self-hosted and accept a temperature.
_OPEN = re.compile(r"llama|mi[sx]tral|ministral|qwen|gemma|phi|gpt-oss|granite|command")
# OpenAI's models older than `json_schema`, which refuse requests with one.
_WITHOUT_SCHEMAS = re.compile(r"gpt-3|gpt-4($|-)|gpt-4o-2024-05|o1-(mini|preview)")
# Models with the context windows of 2023.
_FIRST = re.compile(r"gpt-3|gpt-4($|-\d{4}$|-32k)")


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of model.

    `generation` is OpenAI's version number, (5, 6) for gpt-5.6; None for a name without one. `reasons`: the model
    reasons before it writes, its maximum of tokens includes reasoning, and it refuses a temperature. `temperature` is
    the default that is sent; None sends none. `max_tokens` bounds a reply, `context_tokens` input and reply together.
    """

    generation: tuple[int, int] | None
    reasons: bool
    temperature: float | None
    max_tokens: int
    context_tokens: int
    has_json_schema: bool = True

    @property
    def takes_effort_none(self) -> bool:
        """True if Chat Completions refuses tools for this model unless the request disables reasoning."""
        return self.reasons and self.generation is not None and self.generation >= (5, 4)


TEMPERATURE = 0.2  # the service's original default

# The window is a million tokens; beyond 272,000 of input every token costs twice as much.
_REASONING = Family(None, reasons=True, temperature=None, max_tokens=16_384, context_tokens=272_000)
_LATER_GPT = Family(None, reasons=False, temperature=TEMPERATURE, max_tokens=4096, context_tokens=128_000)
_FIRST_GPT = Family(None, reasons=False, temperature=TEMPERATURE, max_tokens=1024, context_tokens=8192)
_OPEN_WEIGHTS = Family(None, reasons=False, temperature=TEMPERATURE, max_tokens=4096, context_tokens=32_768)
_UNKNOWN = Family(None, reasons=False, temperature=None, max_tokens=4096, context_tokens=32_768)


def family_of(model_id: str, *, is_openai: bool = False) -> Family:
    """Return the family of a model by its provider's name. `is_openai`: the provider is OpenAI itself, so that an
    unrecognised name is one of its newest models.
    """
    name = model_id.lower().removeprefix("ft:").rpartition("/")[2]
    if gpt := _GPT.match(name.replace("gpt-35", "gpt-3.5")):  # Azure's spelling
        generation = int(gpt[1]), int(gpt[2] or 0)
        if generation >= (5, 0) and "-chat" not in gpt[3]:  # the models of ChatGPT itself do not reason
            return replace(_REASONING, generation=generation)
        base = _FIRST_GPT if _FIRST.match(name) else _LATER_GPT
        return replace(base, generation=generation, has_json_schema=not _WITHOUT_SCHEMAS.match(name))
    if _O_SERIES.fullmatch(name):
        return replace(_REASONING, context_tokens=200_000, has_json_schema=not _WITHOUT_SCHEMAS.match(name))
    if _OPEN.search(name):
        return _OPEN_WEIGHTS
    return _REASONING if is_openai else _UNKNOWN
