"""The reasons why a server that runs here accepts no work, according to its health service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType

# Returns the health status of a name at host:port; None: no such server answers there, or it does not know the name.
AskHealth = Callable[[str, str], Awaitable[str | None]]

ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "store": "docs/runbooks.md#disk-full; the log's `readiness_failing` and `store_unavailable` have the cause",
        "provider": "docs/runbooks.md#provider-down",
        "tools": "docs/operations.md#agentservicetoolsstuck",
        "config": "the log's `readiness_failing` has the cause",
    }
)


async def why_not_serving(ask_health: AskHealth, target: str) -> AsyncIterator[tuple[str, str]]:
    """Yield each cause, with advice."""
    if await ask_health(target, "startup") == "NOT_SERVING":
        yield "it has not started yet", "wait, and look at its log; a start recovers limits and tasks from the store"
        return
    is_any = False
    for check, advice in ADVICE.items():
        if await ask_health(target, f"check/{check}") == "NOT_SERVING":
            is_any = True
            yield f"the check {check} does not pass", advice
    if not is_any:
        yield "every check passes, so it is stopping", "wait for it to end: docs/runbooks.md#stuck-drain"
