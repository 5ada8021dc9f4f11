"""Writes the state of the process on a signal, to debug a server that seems to do nothing.

SIGUSR1 (`kill -USR1 PID`) writes it to stderr and the log, SIGUSR2 to a file in memory that `agent-service tasks dump`
reads. The stack of the event loop's thread comes first, as plain text; the signal handler writes it even if the loop is
stuck. If the loop is not stuck, the stacks of all threads follow, then log lines: `running_task` for each task that
runs here, with its stack, and `stack` for each distinct stack of asyncio tasks, with their number. None of them has
values, prompts or keys.

The signal handler runs without the GIL. It must not walk the stacks of other threads, which run and end at the same
time: a server ended by SIGSEGV that way.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
import time
from collections.abc import Mapping
from functools import partial

from agent_service.engine.dispatch.running_task import RunningTask
from agent_service.observe.dumps import About, new_dump_file
from agent_service.observe.log import EventLog, render_json
from agent_service.observe.stacks import stack_of, stacks
from agent_service.text.enum_names import short_name
from agent_service.v1.task_pb2 import TaskState

RUNNING_TASKS_MAX = 1000
STACKS_MAX = 200


def dump_on_signals(log: EventLog, running: Mapping[str, RunningTask], about: About) -> None:
    """Handle SIGUSR1 and SIGUSR2 from now on. By default these signals end the process."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, write_dump, log, sys.stderr.fileno(), running)
    faulthandler.register(signal.SIGUSR1, all_threads=False, chain=True)
    if (file := new_dump_file(about)) is not None:
        to_file = EventLog("INFO", render_json, partial(os.write, file))
        loop.add_signal_handler(signal.SIGUSR2, write_dump, to_file, file, running)
        faulthandler.register(signal.SIGUSR2, file=file, all_threads=False, chain=True)


def write_dump(log: EventLog, threads_file: int, running: Mapping[str, RunningTask]) -> None:
    """Write the stacks of all threads to a descriptor; log the running tasks, and the stacks of all asyncio tasks.

    The event loop calls it, with the GIL, so the other threads stand still.
    """
    os.write(threads_file, b"\n")  # after the stack that the signal handler wrote
    faulthandler.dump_traceback(file=threads_file)
    now = time.time()
    tasks = asyncio.all_tasks()
    drives = {task.get_name(): task for task in tasks}
    for entry in list(running.values())[:RUNNING_TASKS_MAX]:
        task = entry.folded.task
        log.info(
            "running_task",
            task_id=task.id,
            tenant=entry.folded.submitted.tenant,
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
    for stack, count in found.most_common(STACKS_MAX):
        log.info("stack", count=count, at=list(stack))
    log.info("dump", tasks_running=len(running), asyncio_tasks=found.total(), stacks=len(found))
