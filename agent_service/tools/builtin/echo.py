"""Returns its argument: for first steps, and for tests of the code around tools."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent_service.tools.decorator import tool


@tool(side_effect="read_only")
async def echo(text: Annotated[str, Field(description="What to give back.")]) -> str:
    """Give back the text, unchanged."""
    return text
