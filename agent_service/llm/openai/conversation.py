"""Makes any journaled conversation valid for the wire.

Models write arguments that are not JSON, names that no tool could have, and empty replies; providers reject a request
that repeats these. The journal keeps the original, the model has received the error, and the request is well-formed:
one bad reply must not make all later requests fail.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256

from agent_service.llm.base import Capabilities, Message, ModelRequest, Role
from agent_service.llm.degraded import readable

NAME_LENGTH_MAX = 64
ID_LENGTH_MAX = 64
FOREIGN_ID_LENGTH = 9  # Mistral accepts only ids of exactly this many letters and digits
# Ids that the task gave to calls whose provider used an id twice.
_OURS = re.compile(r"call_\d{1,6}_\d{1,6}")

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

INSTRUCTION = (
    "Answer with one JSON document that fits this JSON Schema, and with nothing else:"
    " no words around it, no code fence."
)


def messages_of(request: ModelRequest, capabilities: Capabilities) -> Sequence[Message]:
    """Return the messages to send to a model with these capabilities. The schema is among the instructions if the model
    has no other way to receive it. No message is empty, and no two user messages are adjacent: templates of models
    reject both.
    """
    messages = readable(request.messages, capabilities)
    if request.output_schema_json and not capabilities.json_schema:
        messages = _with_instruction(messages, request.output_schema_json)
    found: list[Message] = []
    for message in messages:
        if message.role is Role.USER and found and found[-1].role is Role.USER:
            found[-1] = found[-1]._replace(text=f"{found[-1].text}\n\n{message.text}")
        elif message.tool_calls or message.role is Role.TOOL or message.text.strip():
            found.append(message)
    return found


def _with_instruction(messages: Sequence[Message], schema: str) -> Sequence[Message]:
    """Return the messages with the schema at the end of the instructions."""
    instruction = f"{INSTRUCTION}\n{schema}"
    if messages and messages[0].role is Role.SYSTEM:
        return [messages[0]._replace(text=f"{messages[0].text}\n\n{instruction}"), *messages[1:]]
    return [Message(Role.SYSTEM, instruction), *messages]


def wire_name(name: str) -> str:
    """Return the tool's name in a form that every provider accepts."""
    name = _NOT_IN_NAMES.sub("_", name)
    return (name if name[:1].isalpha() else f"_{name.removeprefix('_')}")[:NAME_LENGTH_MAX]


class CallIds:
    """The ids of the calls of one request, in a form that the provider accepts: no two calls have the same.

    A model's own ids are sent back unchanged. Ids of another model, which may have another provider, and ids that the
    service made are replaced by ids derived from them, which are the same in every request.
    """

    def __init__(self, model_key: str) -> None:
        self._model_key = model_key
        self._sent: dict[str, str] = {}
        self._taken: set[str] = set()

    def of_call(self, message: Message, call_id: str) -> str:
        """Return the id to send for a call of this message."""
        is_own = message.model == self._model_key and len(call_id) <= ID_LENGTH_MAX and not _OURS.fullmatch(call_id)
        return self.take(call_id, call_id if is_own and call_id.isascii() and call_id.isprintable() else "")

    def take(self, call_id: str, sent: str) -> str:
        """Send the call of this id as `sent`, or under a derived id if `sent` is empty or taken. Return the id."""
        number = 0
        while not sent or sent in self._taken:
            sent, number = _made(f"{call_id}\n{number}" if number else call_id), number + 1
        self._taken.add(sent)
        self._sent[call_id] = sent
        return sent

    def of_result(self, call_id: str) -> str:
        """Return the id to send for the call that a result answers."""
        return self._sent.get(call_id) or _made(call_id)


def _made(call_id: str) -> str:
    number = int.from_bytes(sha256(call_id.encode()).digest()[:8], "big")
    digits = ""
    for _ in range(FOREIGN_ID_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        digits += _DIGITS[digit]
    return digits
