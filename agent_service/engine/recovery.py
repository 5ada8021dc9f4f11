"""After a restart: every task that is not terminal goes on by itself, from what its journal says."""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import DecodeError

from agent_service.agents.config_changed import ConfigChanged
from agent_service.engine.runner import Runner
from agent_service.engine.runtime import AgentRuntime
from agent_service.engine.task_state import FoldedTask, ForbiddenTransitionError
from agent_service.store.base import Store
from agent_service.v1.task_event_pb2 import TaskSubmitted


async def recover(store: Store, runner: Runner, runtime_of: Callable[[TaskSubmitted], AgentRuntime | None]) -> int:
    """Adopt all unfinished tasks; how many. `runtime_of` gives None where the configuration has changed too much.

    A journal that cannot be read is left alone and logged: one bad page must not keep all others from going on.
    """
    adopted, last = 0, ""
    while task_ids := await store.unfinished(after_task_id=last):
        for task_id in task_ids:
            try:
                folded = await read_folded(store, task_id)
            except (DecodeError, ForbiddenTransitionError) as error:
                runner.ports.log.error("task_unreadable", error, task_id=task_id)
                continue
            submitted = folded.submitted
            gone = AgentRuntime(name=submitted.agent, agent=ConfigChanged(), model=None, tools={})
            runner.adopt(folded, runtime_of(submitted) or gone)
            adopted += 1
        last = task_ids[-1]
    return adopted


async def read_folded(store: Store, task_id: str) -> FoldedTask:
    """The task as its whole journal makes it; one without events has no state."""
    folded = FoldedTask()
    while events := await store.read(task_id, after_sequence=folded.task.last_sequence):
        for event in events:
            folded.apply(event)
    return folded
