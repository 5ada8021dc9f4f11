"""Detects changes of a file by its content. Kubernetes sends no signal when a ConfigMap has changed."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path

from agent_service.errors import ConfigError
from agent_service.reloading import WATCH_S, read_bytes


async def watch_file(path: Path, changed: asyncio.Event) -> None:
    """Set `changed` whenever the content differs and is the same in two successive reads, until cancelled. So a half
    written file is not taken for a change.
    """
    used = seen = await asyncio.to_thread(_digest, path)
    while True:
        await asyncio.sleep(WATCH_S)
        now = await asyncio.to_thread(_digest, path)
        if now == seen != used:
            used = now
            changed.set()
        seen = now


def _digest(path: Path) -> bytes:
    try:
        return sha256(read_bytes(path)).digest()
    except ConfigError:
        return b""  # the reader of the file reports the problem
