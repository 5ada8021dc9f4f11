"""The tool of the demonstration, which requires an approval. Available if the configuration names this module."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent_service.tools.decorator import tool


@tool(approval="always")
async def pay(amount: Annotated[int, Field(ge=1)], whom: str) -> str:
    """Pays a person. Its calls wait for approval. For demonstration: no money moves."""
    return f"paid {amount} to {whom}"
