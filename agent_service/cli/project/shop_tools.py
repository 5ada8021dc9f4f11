"""The tools of this project. `config.yaml` names this module, and lists the tools of each agent."""

from __future__ import annotations

from agent_service.errors import ToolError
from agent_service.tools.decorator import tool

STATES = {"A-17": "shipped", "A-18": "waiting for payment"}  # your database, or a web API


@tool(side_effect="read_only", timeout_s=5)
def order_status(order: str) -> dict[str, str]:
    """Returns the state of an order, such as A-17."""
    state = STATES.get(order)
    if state is None:
        raise ToolError(f"there is no order {order}")  # the model reads this, and may ask for another
    return {"order": order, "state": state}
