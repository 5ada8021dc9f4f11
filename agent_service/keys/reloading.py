"""The keys of a file that may change while the service runs.

Whoever authenticates never waits for the file: `reload` reads it, called on SIGHUP and by `watch`, once a second in a
thread. It compares content and not times, so that no change is missed, however a file is replaced. A file should be
replaced at once (written beside and renamed): one that is caught half written is refused if it shows.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from agent_service.errors import ConfigError
from agent_service.keys.base import Principal
from agent_service.keys.file import parse_keys, read_bytes
from agent_service.keys.ring import Key, KeyRing, utc_now

WATCH_S = 1.0


class Log(Protocol):
    """What is told of reloads: `keys_reloaded` with path and keys (how many), `keys_refused` with path and problems.

    Neither fields nor problems hold a secret or a hash.
    """

    def info(self, event: str, **fields: Any) -> None: ...

    def warning(self, event: str, **fields: Any) -> None: ...


class ReloadingKeys:
    """The Keys of a file, as it last was when it was valid. `always` are keys beside those of the file.

    Raises:
        ConfigError: the file is missing or malformed at the start.
    """

    def __init__(
        self, path: Path, log: Log, *, always: Iterable[Key] = (), clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._path = path
        self._log = log
        self._always = tuple(always)
        self._clock = clock
        self._reloading = threading.Lock()
        self._problems: tuple[str, ...] = ()
        content = read_bytes(path)
        self._ring = self._ring_of(content)
        self._seen = sha256(content).digest()

    def authenticate(self, secret: str) -> Principal:
        """See `Keys`."""
        return self._ring.authenticate(secret)

    def is_valid(self, key_id: str) -> bool:
        """See `Keys`."""
        return self._ring.is_valid(key_id)

    def reload(self) -> bool:
        """Read the file, and use it if it changed and is valid; whether it is used. Logs either outcome, a refusal once
        as long as it stays the same. From any thread; takes as long as the file does.
        """
        with self._reloading:
            try:
                content = read_bytes(self._path)
            except ConfigError as error:
                self._seen = b""  # whatever is there next is worth a look
                return self._refused(error)
            digest = sha256(content).digest()
            if digest == self._seen:
                return False
            self._seen = digest
            try:
                self._ring = ring = self._ring_of(content)
            except ConfigError as error:
                return self._refused(error)
            self._problems = ()
            self._log.info("keys_reloaded", path=str(self._path), keys=len(ring))
            return True

    async def watch(
        self, *, every_s: float = WATCH_S, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        """Reload again and again, until cancelled."""
        while True:
            await sleep(every_s)
            await asyncio.to_thread(self.reload)

    def _ring_of(self, content: bytes) -> KeyRing:
        return KeyRing((*self._always, *parse_keys(content, str(self._path))), clock=self._clock)

    def _refused(self, error: ConfigError) -> bool:
        if error.problems != self._problems:
            self._problems = error.problems
            self._log.warning("keys_refused", path=str(self._path), problems=list(error.problems))
        return False
