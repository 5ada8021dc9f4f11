"""`agent-service tasks list|show|watch|cancel|resume|delete`, and commands without a call: `prune|backup` work on the
store itself, `dump` inspects the servers on this machine.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import click
from google.protobuf.json_format import MessageToJson

from agent_service.cli.connection import EXIT_USAGE, Connection, client_command, connection_options, with_client
from agent_service.cli.operator.dump import dump
from agent_service.cli.operator.store import backup, prune
from agent_service.cli.remote.task_output import exit_code, follow, labels_of, view_options
from agent_service.cli.remote.view import answer_hints, task_lines, task_row
from agent_service.client import AsyncClient, CallError, approve, deny, failure, reply, result, run_again
from agent_service.text.enum_names import short_names, value_of
from agent_service.v1.task_pb2 import InputAnswer, Task, TaskState

PAGE_SIZE = 200
CANCELED_AT_ONCE = 10
UNFINISHED = [
    TaskState.TASK_STATE_SUBMITTED,
    TaskState.TASK_STATE_WORKING,
    TaskState.TASK_STATE_INPUT_REQUIRED,
]
STATES = [name.lower().replace("_", "-") for name in short_names(TaskState)]
_tenant_option = click.option(
    "--tenant", default="", help="The tenant, * for all; another than the key's own requires the scope admin."
)


@click.group()
def tasks() -> None:
    """Inspect and control tasks."""


tasks.add_command(prune)
tasks.add_command(backup)
tasks.add_command(dump)


@tasks.command("list")
@click.option("--agent", default="", help="Only tasks of this agent.")
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="Only in this state; repeatable.")
@click.option("--session", default="", help="Only tasks of this session.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only tasks with this label; repeatable.")
@click.option("--key", default="", metavar="ID", help="Only tasks submitted with the key of this id.")
@_tenant_option
@click.option(
    "--limit", type=click.IntRange(1, 2**31 - 1), default=50, show_default=True, help="The most tasks to print."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@connection_options
@client_command
async def list_tasks(
    connection: Connection,
    agent: str,
    states: tuple[str, ...],
    session: str,
    labels: tuple[str, ...],
    key: str,
    tenant: str,
    limit: int,
    as_json: bool,
) -> int:
    """List tasks, newest first."""
    wanted = {
        "agent": agent,
        "states": [value_of(TaskState, state) for state in states],
        "session_id": session,
        "labels": labels_of(labels),
        "submitted_by": key,
        "tenant": tenant,
    }

    async def show(client: AsyncClient) -> int:
        async for task in _listed(client, wanted, limit):
            click.echo(MessageToJson(task, indent=None) if as_json else task_row(task))
        return 0

    return await with_client(connection, show)


@tasks.command()
@click.argument("task_id")
@click.option("--json", "as_json", is_flag=True, help="Print the whole task as JSON.")
@connection_options
@client_command
async def show(connection: Connection, task_id: str, as_json: bool) -> int:
    """Show the current state and the pending inputs of the task TASK_ID."""

    async def tell(client: AsyncClient) -> int:
        task = await client.get_task(task_id)
        click.echo(MessageToJson(task) if as_json else "\n".join([*task_lines(task), *answer_hints(task)]))
        return 0

    return await with_client(connection, tell)


@tasks.command()
@click.argument("task_id")
@click.option("--after", type=click.IntRange(0, 2**63 - 1), default=0, help="Only events after this sequence number.")
@view_options
@connection_options
@client_command
async def watch(connection: Connection, task_id: str, after: int, as_json: bool, quiet: bool) -> int:
    """Follow the task TASK_ID, from its beginning to its end. Ctrl-C stops watching and does not affect the task."""

    async def tell(client: AsyncClient) -> int:
        code = await follow(client.watch(task_id, after_sequence=after), as_json=as_json, quiet=quiet)
        # The event with the exit code may precede the requested sequence.
        return exit_code(await client.get_task(task_id)) if code is None else code

    return await with_client(connection, tell)


@tasks.command()
@click.argument("task_ids", nargs=-1)
@click.option("--key", default="", metavar="ID", help="Cancel all unfinished tasks submitted with the key of this id.")
@_tenant_option
@connection_options
@client_command
async def cancel(connection: Connection, task_ids: tuple[str, ...], key: str, tenant: str) -> int:
    """Cancel tasks, also those that wait."""
    if bool(task_ids) == bool(key):
        _refuse("name tasks, or a --key")
    if tenant and not key:
        _refuse("--tenant needs a --key")

    async def stop(client: AsyncClient) -> int:
        unfinished = {"submitted_by": key, "tenant": tenant, "states": UNFINISHED}
        ids = task_ids or [task.id async for task in _listed(client, unfinished)]
        failures: list[CallError] = []
        for start in range(0, len(ids), CANCELED_AT_ONCE):
            some = map(client.cancel, ids[start : start + CANCELED_AT_ONCE])
            for outcome in await asyncio.gather(*some, return_exceptions=True):
                if isinstance(outcome, Task):
                    click.echo(task_row(outcome))
                elif isinstance(outcome, CallError):
                    failures.append(outcome)
                else:
                    raise outcome
        if failures:
            click.echo(f"{len(failures)} of {len(ids)} tasks could not be canceled", err=True)
            raise failures[0]
        return 0

    return await with_client(connection, stop)


@tasks.command()
@click.argument("task_id")
@click.argument("input_id", default="")
@click.option("--approve", "approved", is_flag=True, help="Allow the tool call.")
@click.option("--deny", "denied", metavar="COMMENT", help="Deny the tool call; the model reads the comment.")
@click.option("--run-again", "again", is_flag=True, help="Run the interrupted call once more.")
@click.option("--result", "output", metavar="JSON", help="The interrupted call took effect: this is its result.")
@click.option("--failed", "error", metavar="TEXT", help="The interrupted call took no effect; the model reads this.")
@click.option("--reply", "text", metavar="TEXT", help="An answer to the agent's question.")
@connection_options
@client_command
async def resume(
    connection: Connection,
    task_id: str,
    input_id: str,
    approved: bool,
    denied: str | None,
    again: bool,
    output: str | None,
    error: str | None,
    text: str | None,
) -> int:
    """Answer a pending input of the task TASK_ID. INPUT_ID may be omitted if there is only one."""
    answers = [approve()] if approved else []
    answers += [run_again()] if again else []
    answers += [deny(denied)] if denied is not None else []
    answers += [_result(output)] if output is not None else []
    answers += [failure(error)] if error is not None else []
    answers += [reply(text)] if text is not None else []
    if len(answers) != 1:
        _refuse("give exactly one answer: --approve, --deny, --run-again, --result, --failed or --reply")

    async def tell(client: AsyncClient) -> int:
        which = input_id or _only_input(await client.get_task(task_id))
        click.echo(task_row(await client.resume(task_id, which, answers[0])))
        return 0

    return await with_client(connection, tell)


@tasks.command()
@click.argument("task_ids", nargs=-1)
@click.option("--session", default="", help="Delete this session with all of its tasks.")
@connection_options
@client_command
async def delete(connection: Connection, task_ids: tuple[str, ...], session: str) -> int:
    """Delete tasks that have ended, with their events."""
    if not task_ids and not session:
        _refuse("name tasks, or a --session")

    async def erase(client: AsyncClient) -> int:
        for task_id in task_ids:
            await client.delete_task(task_id)
            click.echo(f"{task_id} deleted")
        if session:
            click.echo(f"session {session}: {await client.delete_session(session)} tasks deleted")
        return 0

    return await with_client(connection, erase)


async def _listed(client: AsyncClient, wanted: Mapping[str, Any], limit: float = math.inf) -> AsyncIterator[Task]:
    """Yield the tasks of all pages of a list, at most `limit`."""
    left, token = limit, ""
    while left > 0:
        page = await client.list_tasks(**wanted, page_size=int(min(left, PAGE_SIZE)), page_token=token)
        for task in page.tasks:
            yield task
        left -= len(page.tasks)
        token = page.next_page_token
        if not token:
            return


def _result(text: str) -> InputAnswer:
    try:
        return result(json.loads(text))
    except ValueError:
        _refuse(f"--result {text}: must be JSON")
        raise


def _only_input(task: Task) -> str:
    pending: Sequence[str] = [entry.input_id for entry in task.pending_inputs]
    if len(pending) != 1:
        _refuse(f"the task waits for {len(pending)} inputs; name one: {', '.join(pending)}" if pending else _NOTHING)
    return pending[0]


_NOTHING = "the task does not wait for input"


def _refuse(problem: str) -> None:
    click.echo(problem, err=True)
    sys.exit(EXIT_USAGE)
