"""Finds the runtime of a task among the currently configured agents and tools."""

from __future__ import annotations

from agent_service.agents.config_changed import ConfigChanged
from agent_service.engine.runtime import AgentRuntime
from agent_service.engine.task.state import FoldedTask
from agent_service.keys.base import Keys
from agent_service.service.catalog import Catalog
from agent_service.v1 import error_reason_pb2 as reasons
from agent_service.v1.task_pb2 import Failure


class Runtimes:
    """Finds the runtime of a stored task. `catalog` may be replaced at any time; running tasks keep their runtime."""

    def __init__(self, catalog: Catalog, keys: Keys) -> None:
        self.catalog = catalog
        self._keys = keys

    def of(self, folded: FoldedTask) -> AgentRuntime | Failure:
        """Return the task's runtime, or the reason why its first attempt must not start."""
        submitted = folded.submitted
        runtime = self.catalog.runtime_of(submitted)
        if folded.task.attempt == 0:
            if runtime is None:
                changed = "the configuration no longer has the agent, model or tools that the task was accepted with"
                return Failure(reason=reasons.ERROR_REASON_CONFIG_CHANGED, message=changed)
            if not self._keys.is_valid(submitted.submitted_by):
                revoked = "the key that submitted the task is no longer valid"
                return Failure(reason=reasons.ERROR_REASON_KEY_REVOKED, message=revoked)
        return runtime or AgentRuntime(name=submitted.agent, agent=ConfigChanged(), model=None, tools={})
