"""Who may call: keys, and what they allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Scope(StrEnum):
    """What a key may do. ADMIN sees and acts for all tenants."""

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
    """A caller that proved who it is. `agents` and `tools` are the names it may use; None means all of them."""

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
    """The known keys, and certificates that stand for one."""

    def authenticate(self, secret: str) -> Principal:
        """Return whose key this is. Does no I/O.

        How long it takes tells nothing about the keys that there are: an unknown key costs the same comparisons as a
        known one. Only a text without the form of a key takes less.

        Raises:
            AuthenticationError: API_KEY_INVALID or API_KEY_EXPIRED.
        """

    def identify(self, identities: Sequence[str]) -> Principal | None:
        """Return whose client certificate this is, by the identities in it (see `identity`); None: nobody's. Does no
        I/O.

        Raises:
            AuthenticationError: API_KEY_EXPIRED.
        """

    def is_valid(self, key_id: str) -> bool:
        """Return whether a key of this id (`Principal.key_id`) would be accepted now. Does no I/O."""
