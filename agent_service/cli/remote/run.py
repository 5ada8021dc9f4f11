"""`agent-service run`."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import click
from google.protobuf.json_format import MessageToJson

from agent_service.cli.connection import EXIT_FAILED, Connection, client_command, connection_options, with_client
from agent_service.cli.parameter_types import Seconds
from agent_service.cli.remote.stdin import read_stdin
from agent_service.cli.remote.task_output import follow, labels_of, schema_of, view_options
from agent_service.client import AsyncClient
from agent_service.client.requests import RunOptions


def _nanos(_: click.Context, param: click.Parameter, value: str | None) -> int:
    """Return an amount of money in billionths of the currency unit; 0 if none is given."""
    if value is None:
        return 0
    try:
        nanos = Decimal(value).scaleb(9)
    except InvalidOperation:
        raise click.BadParameter(f"{value!r} is not an amount such as 0.25", param=param) from None
    if not nanos.is_finite() or nanos != nanos.to_integral_value() or not 0 < nanos < 2**63:
        raise click.BadParameter(f"{value!r} must be above 0, with at most 9 decimals", param=param)
    return int(nanos)


@click.command()
@click.argument("task")
@click.option("--agent", default="", help="The agent that runs the task.  [default: the server's default agent]")
@click.option("--session", default="", help="The conversation that the task continues.")
@click.option("--timeout", "timeout_s", type=Seconds(), help="The maximum duration of the task in seconds.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label stored with the task; repeatable.")
@click.option(
    "--max-tokens",
    type=click.IntRange(1, 2**63 - 1),
    help="Fail the task before it uses more tokens, input and output together.",
)
@click.option("--max-cost", callback=_nanos, metavar="AMOUNT", help="Fail the task before it costs more, such as 0.25.")
@click.option("--schema", type=click.Path(), help="A file with a JSON Schema that the answer must fit; `-` is stdin.")
@click.option(
    "--request-id", default="", help="Idempotency key: repeating the command finds the same task.  [default: random]"
)
@click.option("--background", is_flag=True, help="Print the task's id and exit; the task runs independently.")
@click.option("--detach", is_flag=True, help="Follow the task, but do not cancel it when this command ends.")
@view_options
@connection_options
@client_command
async def run(
    connection: Connection,
    task: str,
    agent: str,
    session: str,
    timeout_s: float | None,
    labels: tuple[str, ...],
    max_tokens: int | None,
    max_cost: int,
    schema: str | None,
    request_id: str,
    background: bool,
    detach: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run TASK and follow it to its end. `-` reads the task from standard input.

    Shows progress live on a terminal, and as plain lines in a pipe. Ctrl-C cancels the task. Exit code 4 means that the
    task waits for input: see `tasks show` and `tasks resume`.
    """
    text = read_stdin() if task == "-" else task
    options = RunOptions(
        agent=agent,
        session_id=session,
        request_id=request_id,
        timeout_s=timeout_s,
        labels=labels_of(labels),
        detached=detach,
        tokens_max=max_tokens or 0,
        cost_nanos_max=max_cost,
        output_schema=schema_of(schema),
    )

    async def start(client: AsyncClient) -> int:
        if background:
            accepted = await client.submit(text, **options)
            click.echo(MessageToJson(accepted, indent=None) if as_json else accepted.id)
            return 0
        code = await follow(client.stream(text, **options), as_json=as_json, quiet=quiet)
        return EXIT_FAILED if code is None else code

    return await with_client(connection, start)
