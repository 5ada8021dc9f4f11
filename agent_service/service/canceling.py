"""Cancels a task wherever it is: driven here, driven by another process, or waiting."""

from __future__ import annotations

from collections.abc import Callable

from agent_service.engine.dispatch.dispatcher import Dispatcher
from agent_service.engine.dispatch.runner import Runner
from agent_service.engine.outcomes import cancel_idle
from agent_service.engine.task.state import FoldedTask
from agent_service.v1.task_pb2 import CancelCause


class Canceler:
    """Requests the end of tasks. It does not wait for an attempt in another process to follow."""

    def __init__(self, runner: Runner, dispatcher: Dispatcher) -> None:
        self._runner = runner
        self._dispatcher = dispatcher

    async def cancel(
        self,
        task_id: str,
        cause: CancelCause.ValueType,
        key_id: str = "",
        *,
        only_if: Callable[[FoldedTask], bool] = lambda _: True,
    ) -> None:
        """Cancel the task if `only_if` holds for it. `key_id` is the key that asked for it, if one did.

        Raises:
            OverloadedError: STORE_UNAVAILABLE.
        """
        running = self._runner.running.get(task_id)
        if running is not None:
            if not only_if(running.folded):
                return
            running.cancel(cause, key_id)
            await running.ended()
        # It may have been released, or begun to wait for input, before the request reached it: then no process drives
        # it now.
        folded = await cancel_idle(self._runner.ports, task_id, cause, key_id, only_if=only_if)
        if folded.is_terminal:
            self._dispatcher.remove(task_id)
        running = self._runner.running.get(task_id)
        if running is not None and only_if(running.folded):
            # This process has begun it meanwhile, before the request was in the journal.
            running.cancel(cause, key_id)
