"""Values from files that may change while the service runs.

Readers of a value never wait for a file: `watch` calls `reload` once a second in a thread. It compares contents and not
times, so that no change is missed, independent of the way a file is replaced. A file should be replaced atomically
(written under another name and renamed): a half-written file is refused only if it is invalid.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from agent_service.errors import ConfigError
from agent_service.text import files
from agent_service.text.files import Unusable

WATCH_S = 1.0
BYTES_MAX = 1024 * 1024  # 5,000 keys and more; PyYAML reads about 200 KB/s, in a thread and only after a change

T = TypeVar("T")


class Log(Protocol):
    """Logs reloads: `<what>_reloaded`, and `<what>_refused` with problems. Both with the path.

    Neither fields nor problems hold a secret.
    """

    def info(self, event: str, **fields: Any) -> None: ...

    def warning(self, event: str, **fields: Any) -> None: ...


class Reloading(Generic[T]):
    """Holds the last valid `value` of the files.

    `parse` makes a value of their contents, or raises ConfigError; `log_fields` returns the log fields of a value.
    `what` names the events. Refused contents are parsed again only if `ripens`: where time alone may make them valid.

    Raises:
        ConfigError: a file is missing or malformed at the start.
    """

    def __init__(
        self,
        what: str,
        paths: Sequence[Path],
        parse: Callable[[Sequence[bytes]], T],
        log: Log,
        log_fields: Callable[[T], Mapping[str, object]],
        *,
        ripens: bool = False,
    ) -> None:
        self._what = what
        self._paths = paths
        self._parse = parse
        self._log = log
        self._log_fields = log_fields
        self._ripens = ripens
        self._reloading = threading.Lock()
        self._problems: tuple[str, ...] = ()
        contents = read_all(paths)
        self.value = parse(contents)
        self._seen = _digests(contents)

    def reload(self) -> bool:
        """Read the files and use them if they changed and are valid; return whether they are used. Logs both outcomes,
        a refusal once while it stays the same. May be called from any thread; blocks while it reads the files.
        """
        with self._reloading:
            try:
                contents = read_all(self._paths)
            except ConfigError as error:
                self._seen = ()  # the next contents are parsed in any case
                return self._refused(error)
            digests = _digests(contents)
            if digests == self._seen and not (self._ripens and self._problems):
                return False
            self._seen = digests
            try:
                self.value = value = self._parse(contents)
            except ConfigError as error:
                return self._refused(error)
            self._problems = ()
            self._log.info(f"{self._what}_reloaded", path=self._path, **self._log_fields(value))
            return True

    async def watch(
        self, *, every_s: float = WATCH_S, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        """Reload periodically until cancelled."""
        while True:
            await sleep(every_s)
            await asyncio.to_thread(self.reload)

    @property
    def _path(self) -> str:
        return ", ".join(map(str, self._paths))

    def _refused(self, error: ConfigError) -> bool:
        if error.problems != self._problems:
            self._problems = error.problems
            self._log.warning(f"{self._what}_refused", path=self._path, problems=list(error.problems))
        return False


def read_all(paths: Sequence[Path]) -> Sequence[bytes]:
    """Return the content of each file.

    Raises:
        ConfigError: some are missing, no files, not readable, or larger than BYTES_MAX; all problems at once.
    """
    contents: list[bytes] = []
    problems: list[str] = []
    for path in paths:
        try:
            contents.append(read_bytes(path))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return contents


def read_bytes(path: Path) -> bytes:
    """Return the content of one file.

    Raises:
        ConfigError: as `read_all`.
    """
    try:
        return files.read_bytes(path, BYTES_MAX)
    except Unusable as error:
        raise ConfigError([f"{path}: {error}"]) from error


def _digests(contents: Sequence[bytes]) -> tuple[bytes, ...]:
    return tuple(sha256(content).digest() for content in contents)
