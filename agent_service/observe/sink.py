"""Writes log lines to stderr in a separate thread.

Logging never waits for stderr: a pipe without a reader would block the event loop, and a full disk would fail the call
that is being logged. Lines that cannot be written are dropped and counted.
"""

from __future__ import annotations

import os
from queue import SimpleQueue
from threading import Event, Thread

LINES_WAITING_MAX = 10_000
CLOSE_S = 1.0
# Lines are written together, this much later at most. To wake the thread for each line costs the event loop a switch of
# threads for each.
GATHER_S = 0.01
STDERR = 2


class StderrSink:
    """Takes whole lines. Closing it writes the last of them."""

    def __init__(self, descriptor: int = STDERR) -> None:
        self._descriptor = descriptor
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self.dropped = 0
        self._closing = Event()
        # A daemon: a pipe that is never read must not keep the process alive.
        self._thread = Thread(target=self._write, name="log-writer", daemon=True)
        self._thread.start()

    def __call__(self, line: bytes) -> None:
        if self._lines.qsize() < LINES_WAITING_MAX:
            self._lines.put(line)
        else:
            self.dropped += 1

    def close(self) -> None:
        """Write the waiting lines, for CLOSE_S at most."""
        self._closing.set()
        self._lines.put(None)
        self._thread.join(CLOSE_S)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            self._closing.wait(GATHER_S)
            lines = [line]
            while not self._lines.empty() and len(lines) < LINES_WAITING_MAX:
                more = self._lines.get()
                if more is None:
                    self._put(lines)
                    return
                lines.append(more)
            self._put(lines)

    def _put(self, lines: list[bytes]) -> None:
        data = memoryview(b"".join(lines))
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            self.dropped += len(lines)
