"""What must be seen in no output of a server that is attacked: keys, prompts, arguments, texts of exceptions, paths."""

from __future__ import annotations

import asyncio
import base64
import signal
from collections.abc import Mapping
from pathlib import Path

from tests.faults.abused import Abused
from tests.faults.attacks.victim import CANARY, Victim

ROOT = Path(__file__).parents[2]


async def leaks(world: Abused, victim: Victim) -> list[str]:
    """Where one of them is, in the answers to the attackers, the log since the last time, a dump and the metrics."""
    server = world.server
    secrets = [CANARY, victim.key, victim.token, *victim.keys]
    inside = [*secrets, str(server.directory), str(ROOT), "Traceback", 'File "', ".py"]
    server.process.send_signal(signal.SIGUSR1)
    async with asyncio.timeout(20):
        await server.logged("dump", 1 + sum(line["event"] == "dump" for line in server.log))
    outputs = {
        "a status": ("\n".join(map(_told, victim.told)), inside),
        "the log": ("".join(server.stderr), secrets),
        "the metrics": (await server.metrics(), inside),
    }
    faults = [f"a fault: {line}" for line in server.log if line["event"] == "fault"]
    server.stderr.clear()
    server.log.clear()
    return faults + [f"{word} in {where}" for where, (text, words) in outputs.items() for word in words if word in text]


def _told(answer: Mapping[str, str]) -> str:
    """An answer with all of its trailers, those in bytes too."""
    details = answer.get("grpc-status-details-bin", "")
    return f"{dict(answer)} {base64.b64decode(details + '==')!r}"
