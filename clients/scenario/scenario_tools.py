"""The tools of the scenario's world."""

from __future__ import annotations

import asyncio
import os
import uuid
from typing import Annotated

from pydantic import Field

from agent_service.errors import ToolError
from agent_service.tools.base import ToolContext
from agent_service.tools.decorator import tool


@tool(side_effect="side_effecting")
async def ticket() -> str:
    """A new ticket at every run: whoever has the same one twice has not run it twice."""
    return uuid.uuid4().hex


@tool(side_effect="read_only")
async def stumble(over: str) -> str:
    """Always fails."""
    raise ToolError(f"stumbled over {over}")


@tool(side_effect="read_only")
async def nap(seconds: Annotated[float, Field(ge=0, le=600)]) -> str:
    """Sleeps for so long."""
    await asyncio.sleep(seconds)
    return "rested"


@tool(side_effect="read_only", timeout_s=60)
async def outlast(context: ToolContext) -> str:
    """Ends only in another process than the one that it began in: works by a note in the server's directory."""
    note = f"outlast-{context.idempotency_key.replace('/', '-')}"
    try:
        os.close(os.open(note, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "outlasted"
    await asyncio.sleep(600)
    return "never"
