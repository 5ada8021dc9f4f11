"""The keys of a file that may change while the service runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from agent_service.keys.base import Principal
from agent_service.keys.file import parse_keys
from agent_service.keys.ring import Key, KeyRing, utc_now
from agent_service.reloading import Log, Reloading


class ReloadingKeys(Reloading[KeyRing]):
    """The Keys of a file in its last valid version. `always` has keys beside those of the file.

    Raises:
        ConfigError: the file is missing or malformed at the start.
    """

    def __init__(
        self, path: Path, log: Log, *, always: Iterable[Key] = (), clock: Callable[[], datetime] = utc_now
    ) -> None:
        always = tuple(always)

        def ring_of(contents: Sequence[bytes]) -> KeyRing:
            (content,) = contents
            return KeyRing((*always, *parse_keys(content, str(path))), clock=clock)

        super().__init__("keys", [path], ring_of, log, lambda ring: {"keys": len(ring)})

    def authenticate(self, secret: str) -> Principal:
        """See `Keys`."""
        return self.value.authenticate(secret)

    def identify(self, identities: Sequence[str]) -> Principal | None:
        """See `Keys`."""
        return self.value.identify(identities)

    def is_valid(self, key_id: str) -> bool:
        """See `Keys`."""
        return self.value.is_valid(key_id)
