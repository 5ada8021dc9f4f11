"""The keys port: authentication of callers, and their permissions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Scope(StrEnum):
    """A permission of a key. ADMIN reads and acts for all tenants."""

    TASKS_RUN = "tasks.run"
    TASKS_READ = "tasks.read"
    TASKS_CANCEL = "tasks.cancel"
    TASKS_ANSWER = "tasks.answer"
    TASKS_DELETE = "tasks.delete"
    TOOLS_INVOKE = "tools.invoke"
    USAGE_READ = "usage.read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. `agents` and `tools` are the names it may use; None means all of them."""

    tenant: str
    key_id: str
    scopes: frozenset[Scope]
    agents: frozenset[str] | None = None
    tools: frozenset[str] | None = None

    def may_use_agent(self, agent: str) -> bool:
        return self.agents is None or agent in self.agents

    def may_use_tool(self, tool: str) -> bool:
        return self.tools is None or tool in self.tools


class Keys(Protocol):
    """The known keys, and the client certificates that can replace a key."""

    def authenticate(self, secret: str) -> Principal:
        """Return the principal of a key. Does no I/O.

        Its duration reveals nothing about the existing keys: an unknown key costs the same comparisons as a known one.
        Only a text without the form of a key takes less time.

        Raises:
            AuthenticationError: API_KEY_INVALID or API_KEY_EXPIRED.
        """

    def identify(self, identities: Sequence[str]) -> Principal | None:
        """Return the principal of a client certificate by the identities in it (see `identity`); None if none is known.
        Does no I/O.

        Raises:
            AuthenticationError: API_KEY_EXPIRED.
        """

    def is_valid(self, key_id: str) -> bool:
        """Return whether a key of this id (`Principal.key_id`) would be accepted now. Does no I/O."""
