"""The tools of the kill test: what they do to the world stands in a file that no store knows of."""

from __future__ import annotations

import asyncio
import os

from agent_service.tools.base import ToolContext
from agent_service.tools.decorator import SideEffect, tool

WORLD = "world.log"


async def act(kind: str, context: ToolContext) -> str:
    """One line when it begins and one when it has happened; a kill finds it somewhere between."""
    note(f"begin {kind} {context.idempotency_key}")
    await asyncio.sleep(0.01)
    note(f"end {kind} {context.idempotency_key}")
    return f"{kind} done"


def note(line: str) -> None:
    """Written by one system call: the page cache outlives a killed process."""
    handle = os.open(WORLD, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(handle, f"{line}\n".encode())
    finally:
        os.close(handle)


def declare(name: str, side_effect: SideEffect) -> None:
    """Make a tool of that name a part of this module."""

    @tool(name=name, side_effect=side_effect)
    async def act_on_the_world(context: ToolContext) -> str:
        """Acts on the world."""
        return await act(name, context)

    globals()[name] = act_on_the_world


declare("pay", "side_effecting")
declare("put", "idempotent")
declare("look", "read_only")
