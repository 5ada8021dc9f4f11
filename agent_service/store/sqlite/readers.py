"""The threads that read a SQLite journal, each on a connection of its own.

Lists of callers, journals, and look-ups by key or of the engine have separate threads, so that none waits for another.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Concatenate, ParamSpec, TypeVar

from agent_service.errors import OverloadedError
from agent_service.v1 import error_reason_pb2 as reasons

P = ParamSpec("P")
T = TypeVar("T")

# SQLite calls the progress handler after this many of its instructions.
INSTRUCTIONS = 20_000


class Lane:
    """The threads for one class of reads, one per connection. A read longer than `read_max_s` is interrupted."""

    def __init__(
        self, name: str, connections: list[sqlite3.Connection], resources: ExitStack, *, read_max_s: float = math.inf
    ) -> None:
        self._readers: SimpleQueue[_Reader] = SimpleQueue()
        for connection in connections:
            resources.callback(connection.close)
            self._readers.put(_Reader(connection, read_max_s))
        self._threads = ThreadPoolExecutor(len(connections), thread_name_prefix=f"store-{name}")
        resources.callback(self._threads.shutdown)

    async def read(
        self, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a query in one of the threads.

        Raises:
            sqlite3.Error: SQLite failed. OverloadedError: the query took too long.
        """

        def ask() -> T:
            reader = self._readers.get()
            try:
                return reader.read(lambda connection: query(connection, *args, **kwargs))
            finally:
                self._readers.put(reader)

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)


class _Reader:
    """A connection, and the time until which its current query may run."""

    def __init__(self, connection: sqlite3.Connection, read_max_s: float) -> None:
        self._connection = connection
        self._read_max_s = read_max_s
        self._until = math.inf
        if read_max_s < math.inf:
            connection.set_progress_handler(self._is_late, INSTRUCTIONS)

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        self._until = time.monotonic() + self._read_max_s
        try:
            return query(self._connection)
        except sqlite3.OperationalError as error:
            if self._is_late():
                message = f"the store looked for longer than {self._read_max_s:g} s; ask for less"
                raise OverloadedError(reasons.ERROR_REASON_OVERLOADED, message) from error
            raise

    def _is_late(self) -> bool:
        return time.monotonic() > self._until
