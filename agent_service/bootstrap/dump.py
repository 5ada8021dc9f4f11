"""What the process does now, told when SIGUSR1 asks: `kill -USR1 PID` on one that seems to do nothing.

The stacks of all threads go to stderr as plain text, also where the event loop is stuck: the signal's own handler
writes them. Where it is not, lines of the log follow: `running_task` for each task that runs here, and `stack` for each
place where asyncio's tasks stand, with how many stand there. No values, prompts or keys in any of them.
"""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import time
from collections.abc import Callable, Mapping

from agent_service.engine.runner import RunningTask
from agent_service.observe.log import EventLog
from agent_service.observe.stacks import stacks
from agent_service.v1.task_pb2 import TaskState

RUNNING_TOLD_MAX = 1000
STACKS_TOLD_MAX = 200


def dump_on_signal(dump: Callable[[], None]) -> None:
    """Answer SIGUSR1, in place of ending the process, which is what the signal does by itself."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, dump)
    faulthandler.register(signal.SIGUSR1, chain=True)


def write_dump(log: EventLog, running: Mapping[str, RunningTask]) -> None:
    """Tell what runs and where everything stands."""
    now = time.time()
    for one in list(running.values())[:RUNNING_TOLD_MAX]:
        task = one.folded.task
        log.info(
            "running_task",
            task_id=task.id,
            tenant=one.folded.submitted.tenant,
            agent=task.agent,
            state=TaskState.Name(task.state).removeprefix("TASK_STATE_"),
            attempt=task.attempt,
            sequence=task.last_sequence,
            age_s=round(now - task.create_time.ToMicroseconds() / 1e6, 1),
            silent_s=round(now - task.update_time.ToMicroseconds() / 1e6, 1),
            deadline_in_s=round(task.deadline.ToMicroseconds() / 1e6 - now, 1),
        )
    found = stacks(asyncio.all_tasks())
    for stack, count in found.most_common(STACKS_TOLD_MAX):
        log.info("stack", count=count, at=list(stack))
    log.info("dump", tasks_running=len(running), asyncio_tasks=found.total(), stacks=len(found))
