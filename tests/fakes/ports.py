"""Ports for servers that must know theirs before they start, or keep it when they start again."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from contextlib import closing
from pathlib import Path

# Below the range from which Linux takes the ports of connections and of servers that ask for any port.
RANGE = range(20_000, 32_000)


def free_port() -> int:
    """Return a port of this process: no other test process takes it while this one lives."""
    locks = Path(tempfile.gettempdir()) / f"test-ports-{os.getuid()}"
    locks.mkdir(exist_ok=True)
    for port in random.sample(RANGE, len(RANGE)):
        lock = os.open(locks / str(port), os.O_CREAT | os.O_RDWR, 0o600)  # closed by the end of the process
        if _is_locked(lock) and _is_free(port):
            return port
        os.close(lock)
    raise OSError("no port is free")


def _is_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
