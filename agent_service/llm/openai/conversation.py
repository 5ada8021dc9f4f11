"""A conversation made valid for the wire, whatever its journal holds.

Models write arguments that are no JSON, names that no tool could have, and nothing at all; providers refuse a request
that repeats it to them. The journal keeps what was said, the model has read what was wrong with it, and what is sent is
well-formed: one bad reply must not make all later requests fail.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from agent_service.llm.base import Capabilities, Message, ModelRequest, Role
from agent_service.llm.degraded import readable

NAME_LENGTH_MAX = 64
ID_LENGTH_MAX = 64
FOREIGN_ID_LENGTH = 9  # Mistral takes ids of just so many letters and digits
# Ids that the task gave to calls whose provider gave one twice.
_OURS = re.compile(r"call_\d{1,6}_\d{1,6}")

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

INSTRUCTION = (
    "Answer with one JSON document that fits this JSON Schema, and with nothing else:"
    " no words around it, no code fence."
)


def messages_of(request: ModelRequest, capabilities: Capabilities) -> Sequence[Message]:
    """The messages that a model with these capabilities is sent, with the schema among the instructions where it cannot
    be told otherwise. None of them is empty, and no two of a user stand in a row: templates of models refuse both.
    """
    messages = readable(request.messages, capabilities)
    if request.output_schema_json and not capabilities.json_schema:
        messages = _with_instruction(messages, request.output_schema_json)
    found: list[Message] = []
    for one in messages:
        if one.role is Role.USER and found and found[-1].role is Role.USER:
            found[-1] = replace(found[-1], text=f"{found[-1].text}\n\n{one.text}")
        elif one.tool_calls or one.role is Role.TOOL or one.text.strip():
            found.append(one)
    return found


def _with_instruction(messages: Sequence[Message], schema: str) -> Sequence[Message]:
    """The messages, with the schema at the end of the instructions."""
    told = f"{INSTRUCTION}\n{schema}"
    if messages and messages[0].role is Role.SYSTEM:
        return [replace(messages[0], text=f"{messages[0].text}\n\n{told}"), *messages[1:]]
    return [Message(Role.SYSTEM, told), *messages]


def wire_name(name: str) -> str:
    """A tool's name as every provider takes it."""
    name = _NOT_IN_NAMES.sub("_", name)
    return (name if name[:1].isalpha() else f"_{name.removeprefix('_')}")[:NAME_LENGTH_MAX]


class CallIds:
    """The ids of the calls of one request, as the provider takes them: no two calls have the same.

    A model's own go back as they are. Those of another model, behind which another provider may be, and those that are
    the service's own are made anew from the old ones: the same in every request.
    """

    def __init__(self, model_key: str) -> None:
        self._model_key = model_key
        self._sent: dict[str, str] = {}
        self._taken: set[str] = set()

    def of_call(self, message: Message, call_id: str) -> str:
        """The id of a call that this message asks for."""
        is_own = message.model == self._model_key and len(call_id) <= ID_LENGTH_MAX and not _OURS.fullmatch(call_id)
        return self.take(call_id, call_id if is_own and call_id.isascii() and call_id.isprintable() else "")

    def take(self, call_id: str, sent: str) -> str:
        """Have the call of this id sent under that one, or one that is made where that is empty or is another's."""
        number = 0
        while not sent or sent in self._taken:
            sent, number = _made(f"{call_id}\n{number}" if number else call_id), number + 1
        self._taken.add(sent)
        self._sent[call_id] = sent
        return sent

    def of_result(self, call_id: str) -> str:
        """The id of the call that a result answers."""
        return self._sent.get(call_id) or _made(call_id)


def _made(call_id: str) -> str:
    number = int.from_bytes(sha256(call_id.encode()).digest()[:8], "big")
    digits = ""
    for _ in range(FOREIGN_ID_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        digits += _DIGITS[digit]
    return digits
