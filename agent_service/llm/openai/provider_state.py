"""What a provider wants back with the next request, packed for the journal.

It is of one model behind one API of one provider, and goes back there alone: packed with it is a digest of the three,
and what was packed elsewhere is not unpacked. A state that the provider refuses (it was encrypted with a key that is
gone, say) is remembered as refused, and left out from then on.
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
        """The state for the journal; empty where it is larger than one may be."""
        try:
            state = orjson.dumps({"origin": self._origin, **fields})
        except TypeError:  # halves of surrogate pairs, which no provider could want back
            return b""
        return state if len(state) <= PROVIDER_STATE_BYTES_MAX else b""

    def unpacked(self, state: bytes) -> dict[str, Any]:
        """Return what was packed; {} for nothing, and for what is of another model or was refused."""
        if not state or (self._refused and _digest(state) in self._refused):
            return {}
        fields: dict[str, Any] = orjson.loads(state)
        return fields if fields.pop("origin", None) == self._origin else {}

    def refuse(self, messages: Iterable[Message]) -> bool:
        """The provider refuses a state of one of these: leave all of theirs out from now on. False if there is none."""
        states = [_digest(message.provider_state) for message in messages if self.unpacked(message.provider_state)]
        for state in states:
            self._refused[state] = None
        while len(self._refused) > REFUSED_MAX:
            self._refused.popitem(last=False)
        return bool(states)


def _digest(state: bytes) -> bytes:
    return sha256(state).digest()[:16]
