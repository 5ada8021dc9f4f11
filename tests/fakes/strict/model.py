"""The models of the strict provider: what each is, and what it says.

A model does as many turns of tool calls as the task's text names ("3 turns", "2 turns of 2 calls"), none if it names
none, and then answers `fine: ` and the results. How far it is, it reads off the conversation alone, so it plays on
after whatever happened to the service.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import orjson

from tests.fakes.strict.refusal import words

Json = dict[str, Any]

_SECRET = b"of the strict provider alone"
CHAT = "/chat/completions"
RESPONSES = "/responses"


@dataclass(frozen=True, slots=True)
class Personality:
    """How a model's server behaves. `reasons`: the model is one of OpenAI's that reason.

    `opaque` are fields of a message that it sends and must get back; `fields` are what a request may have, None for
    OpenAI's; `call_id` is the pattern of the ids that it takes.
    """

    name: str = "plain"
    apis: frozenset[str] = frozenset((CHAT,))
    reasons: bool = False
    needs_effort_none: bool = False
    fields: frozenset[str] | None = None
    opaque: frozenset[str] = frozenset()
    call_id: str = r".{1,64}"
    shutdown_date: str | None = None


_BOTH = frozenset((CHAT, RESPONSES))
_COMPATIBLE = words(
    "model messages stream stream_options tools tool_choice parallel_tool_calls response_format max_tokens"
    " temperature top_p stop"
)

MODELS: Mapping[str, Personality] = MappingProxyType(
    {
        "gpt-5.6-strict": Personality(apis=_BOTH, reasons=True, needs_effort_none=True),
        "gpt-5-strict": Personality(apis=_BOTH, reasons=True),
        "gpt-4.1-strict": Personality(apis=_BOTH, shutdown_date="2027-01-15"),
        "plain-1": Personality(fields=_COMPATIBLE),
        "deepseek-v4": Personality(
            "deepseek", fields=_COMPATIBLE | {"reasoning_effort", "thinking"}, opaque=frozenset({"reasoning_content"})
        ),
        "gemini-3-pro": Personality("gemini", fields=_COMPATIBLE | {"reasoning_effort", "max_completion_tokens"}),
        "mistral-large": Personality(
            "mistral", fields=_COMPATIBLE | {"random_seed", "prompt_mode"}, call_id="[a-zA-Z0-9]{9}"
        ),
        "openrouter-kimi": Personality(
            "openrouter",
            fields=_COMPATIBLE | {"reasoning", "reasoning_effort", "max_completion_tokens"},
            opaque=frozenset({"reasoning", "reasoning_details"}),
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a task is, as the conversation tells: the user's last text, and what came after it."""

    text: str
    turns: int = 0
    outputs: Sequence[str] = ()

    @property
    def turns_asked(self) -> int:
        found = re.search(r"(\d+) turns?", self.text)
        return int(found[1]) if found else 0

    @property
    def calls_each(self) -> int:
        found = re.search(r"of (\d+) calls?", self.text)
        return int(found[1]) if found else 1


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: str


@dataclass(slots=True)
class PlayedModel:
    """`slips` are the calls that it makes in place of its own, by the number of the turn, from 1."""

    slips: dict[int, Sequence[Call]] = field(default_factory=dict)

    def calls(self, progress: Progress, tools: Sequence[tuple[str, Json]]) -> Sequence[Call]:
        """What it calls now; nothing where it answers."""
        turn = progress.turns + 1
        if turn > progress.turns_asked or not tools:
            return ()
        if turn in self.slips:
            return self.slips[turn]
        name, schema = tools[0]
        count = progress.calls_each
        return [Call(name, _arguments(schema, (turn - 1) * count + number + 1)) for number in range(count)]

    def answer(self, progress: Progress) -> str:
        return f"fine: {', '.join(progress.outputs)}" if progress.outputs else "fine"


def _arguments(schema: Json, number: int) -> str:
    """Arguments that fit a schema of plain required properties, different for each number."""
    properties = schema.get("properties", {})
    values = {}
    for name in schema.get("required", ()):
        is_text = properties.get(name, {}).get("type") == "string"
        values[name] = f"{number} + {number}" if is_text else number
    return orjson.dumps(values).decode()


def signature(*parts: object) -> str:
    """What only this provider can have written about these parts."""
    return hmac.new(_SECRET, repr(parts).encode(), hashlib.sha256).hexdigest()
