"""`agent-service tasks dump`: the current activity of the servers on this machine, even if an event loop is blocked."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from agent_service.cli.connection import EXIT_FAILED
from agent_service.cli.parameter_types import Seconds
from agent_service.errors import ConfigError

# A file in the stack of the thread that runs the server's event loop.
LOOP = "agent_service/cli/operator/serve.py"


@click.command()
@click.option("--pid", type=int, help="Show only this process.")
@click.option("--timeout", "timeout_s", type=Seconds(), default=3.0, show_default=True, help="Seconds to wait.")
def dump(pid: int | None, timeout_s: float) -> None:
    """Show what the servers on this machine do now.

    Shows their tasks, and the stacks of tasks and threads. Needs neither key nor port, and works if a server does not
    answer: for one whose event loop is blocked it shows the stack of the loop's thread, which names the blocking
    line, and its tasks by the store. The servers continue to run. Shows files, lines and functions, never a prompt,
    an argument or a key. Run it as the servers' user or root, in their container. Needs Linux; elsewhere `kill -USR1
    PID` makes a server write the same to its stderr.
    """
    from agent_service.observe import dumps

    found = [(about, path) for about, path in dumps.servers() if pid in (None, about.pid)]
    if not found:
        click.echo("no server runs here whose process this user may inspect", err=True)
        sys.exit(EXIT_FAILED)
    for about, path in found:
        click.echo(f"server {about.pid} on port {about.port}, {about.database or 'store in memory'}")
        try:
            report = dumps.dump(about, path, timeout_s=timeout_s)
        except OSError as error:
            click.echo(f"cannot request a dump: {error.strerror}")
            continue
        if report.answered:
            click.echo("\n".join(_tasks(report.lines)))
        else:
            click.echo(f"the event loop has not answered for {timeout_s:g} s: its thread is blocked as shown below")
            click.echo("\n".join(_driven(about.database, about.worker)))
        click.echo("\n".join(_threads(report.threads)))


def _tasks(lines: Iterable[dict[str, Any]]) -> Iterator[str]:
    for line in lines:
        match line["event"]:
            case "running_task":
                times = f"silent for {line['silent_s']} s, {line['deadline_in_s']} s left"
                yield f"task {line['task_id']} {line['tenant']} {line['agent']} {line['state']} {times}"
                yield from _places(line.get("at", ()))
            case "stack":
                yield f"{line['count']} asyncio tasks at"
                yield from _places(line["at"])
            case "dump":
                yield f"{line['tasks_running']} tasks run here"


def _places(at: Iterable[str]) -> Iterator[str]:
    return (f"    {place}" for place in at)


def _driven(database: str, worker: str) -> Iterator[str]:
    """Yield the tasks of a server that does not answer, by its store."""
    from agent_service.bootstrap.store_file import driven_by

    if not database:
        return
    try:
        driven = driven_by(Path(database), worker)
    except ConfigError as error:
        yield from error.problems
        return
    for task in driven:
        silent_s = time.time() - task.update_time_us / 1e6
        yield f"task {task.task_id} {task.tenant} {task.agent} attempt {task.attempt} silent for {silent_s:.1f} s"
    yield f"{len(driven)} tasks run here, by the store"


def _threads(text: str) -> Iterator[str]:
    """Yield the stacks of the threads, the event loop's first."""
    threads = [part.strip() for part in text.split("\n\n") if part.strip()]
    yield from sorted(threads, key=lambda thread: LOOP not in thread)
