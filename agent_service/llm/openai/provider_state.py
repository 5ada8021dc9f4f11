"""Provider state: opaque data that a provider expects back with the next request, packed for the journal.

A state belongs to one model behind one API of one provider and is sent only there: it is packed with a digest of the
three, and a state with another digest is not unpacked. A state that the provider rejects, for example because its
encryption key is gone, is remembered as rejected and omitted from then on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import orjson

from agent_service.llm.base import PROVIDER_STATE_BYTES_MAX, Message

REFUSED_MAX = 10_000


class StateKeeper:
    """Packs and unpacks the states of one model."""

    def __init__(self, api: str, base_url: str, model_id: str) -> None:
        self._origin = sha256(f"{api}\n{base_url}\n{model_id}".encode()).hexdigest()[:16]
        self._refused: OrderedDict[bytes, None] = OrderedDict()

    def packed(self, fields: dict[str, Any]) -> bytes:
        """Return the state for the journal; empty if it is too large."""
        try:
            state = orjson.dumps({"origin": self._origin, **fields})
        except TypeError:  # halves of surrogate pairs, which no provider can expect back
            return b""
        return state if len(state) <= PROVIDER_STATE_BYTES_MAX else b""

    def unpacked(self, state: bytes) -> dict[str, Any]:
        """Return the fields of a state; {} for an empty state, one of another model, and one that was rejected."""
        if not state or (self._refused and _digest(state) in self._refused):
            return {}
        fields: dict[str, Any] = orjson.loads(state)
        return fields if fields.pop("origin", None) == self._origin else {}

    def refuse(self, messages: Iterable[Message]) -> bool:
        """Omit the states of these messages from now on, because the provider rejects one. Return False if none has
        any.
        """
        states = [_digest(message.provider_state) for message in messages if self.unpacked(message.provider_state)]
        for state in states:
            self._refused[state] = None
        while len(self._refused) > REFUSED_MAX:
            self._refused.popitem(last=False)
        return bool(states)


def _digest(state: bytes) -> bytes:
    return sha256(state).digest()[:16]
