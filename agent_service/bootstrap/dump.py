"""What the process does now, told when a signal asks it: for a server that seems to do nothing.

SIGUSR1 (`kill -USR1 PID`) has it written to stderr and the log, SIGUSR2 to a file in memory that `agent-service tasks
dump` reads. The stacks of all threads come first, as plain text, also where the event loop is stuck: the signal's own
handler writes them. Where it is not, lines of the log follow: `running_task` for each task that runs here, with its
stack, and `stack` for each place where asyncio's tasks stand, with how many stand there. No values, prompts or keys in
any of them.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import time
from collections.abc import Mapping
from functools import partial

from agent_service.engine.dispatch.running_task import RunningTask
from agent_service.observe.dumps import About, new_dump_file
from agent_service.observe.log import EventLog, render_json
from agent_service.observe.stacks import stack_of, stacks
from agent_service.text.enum_names import short_name
from agent_service.v1.task_pb2 import TaskState

RUNNING_TOLD_MAX = 1000
STACKS_TOLD_MAX = 200


def dump_on_signals(log: EventLog, running: Mapping[str, RunningTask], about: About) -> None:
    """Answer SIGUSR1 and SIGUSR2, in place of ending the process, which is what they do by themselves, to its end."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, write_dump, log, running)
    faulthandler.register(signal.SIGUSR1, chain=True)
    if (file := new_dump_file(about)) is not None:
        to_file = EventLog("INFO", render_json, partial(os.write, file))
        loop.add_signal_handler(signal.SIGUSR2, write_dump, to_file, running)
        faulthandler.register(signal.SIGUSR2, file=file, chain=True)


def write_dump(log: EventLog, running: Mapping[str, RunningTask]) -> None:
    """Tell what runs and where everything stands."""
    now = time.time()
    tasks = asyncio.all_tasks()
    drives = {task.get_name(): task for task in tasks}
    for one in list(running.values())[:RUNNING_TOLD_MAX]:
        task = one.folded.task
        log.info(
            "running_task",
            task_id=task.id,
            tenant=one.folded.submitted.tenant,
            agent=task.agent,
            state=short_name(TaskState, task.state),
            attempt=task.attempt,
            sequence=task.last_sequence,
            age_s=round(now - task.create_time.ToMicroseconds() / 1e6, 1),
            silent_s=round(now - task.update_time.ToMicroseconds() / 1e6, 1),
            deadline_in_s=round(task.deadline.ToMicroseconds() / 1e6 - now, 1),
            at=list(stack_of(drives[task.id])) if task.id in drives else None,
        )
    found = stacks(tasks)
    for stack, count in found.most_common(STACKS_TOLD_MAX):
        log.info("stack", count=count, at=list(stack))
    log.info("dump", tasks_running=len(running), asyncio_tasks=found.total(), stacks=len(found))
