"""`agent-service usage`: tokens, calls and cost, as a table, CSV or JSON."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import click
from google.protobuf.json_format import MessageToJson

from agent_service.cli.connection import Connection, client_command, connection_options, with_client
from agent_service.client import AsyncClient
from agent_service.text.amounts import money
from agent_service.text.tables import table_lines
from agent_service.v1.agent_service_pb2 import UsageRow

GROUPS = ("tenant", "agent", "model")
COUNTS = ("tasks", "model_calls", "tool_calls")
TOKENS = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")
ESTIMATED = ("estimated_calls", "estimated_tokens", "estimated_cost", "unpriced_calls")
CSV_COLUMNS = ("start_time", *GROUPS, *COUNTS, *TOKENS, "cost", *ESTIMATED)
TABLE_HEADS = ("TASKS", "CALLS", "TOOLS", "INPUT", "CACHED", "OUTPUT", "REASONING", "ESTIMATED", "COST")
TABLE_COLUMNS = (*COUNTS, *TOKENS, "estimated_tokens", "cost")
AGO = re.compile(r"(\d{1,5})([dh])")


def _hour(_: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """Parse a whole hour: a date, a time, or `7d` and `24h` for a time before now."""
    if value is None:
        return None
    if found := AGO.fullmatch(value):
        ago = timedelta(days=int(found[1])) if found[2] == "d" else timedelta(hours=int(found[1]))
        return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - ago
    try:
        time = datetime.fromisoformat(value)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        text = f"{value!r} is not a time such as 2026-07-01, 2026-07-01T05:00Z, 7d or 24h"
        raise click.BadParameter(text, param=param) from None
    if (time.minute, time.second, time.microsecond) != (0, 0, 0):
        raise click.BadParameter(f"{value!r} is not a whole hour in UTC", param=param)
    return time


def _groups(_: click.Context, param: click.Parameter, value: str) -> list[str]:
    groups = [group.strip() for group in value.split(",") if group.strip()]
    if unknown := [group for group in groups if group not in GROUPS]:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(GROUPS)}", param=param)
    return groups


@click.command()
@click.option(
    "--by",
    callback=_groups,
    default="",
    metavar="LIST",
    help="Group by tenant, agent, model, or several, separated by commas.",
)
@click.option(
    "--since",
    callback=_hour,
    metavar="TIME",
    help="Start, a whole hour: 2026-07-01, 2026-07-01T05:00Z, or 7d or 24h for a time ago.",
)
@click.option("--until", callback=_hour, metavar="TIME", help="End, exclusive, a whole hour.  [default: now]")
@click.option(
    "--bucket",
    type=click.Choice(["total", "day", "hour"]),
    default="total",
    show_default=True,
    help="The period that a row covers.",
)
@click.option(
    "--tenant", default="", help="The tenant, * for all; another than the key's own requires the scope admin."
)
@click.option("--agent", default="", help="Only usage of this agent, or of this tool.")
@click.option("--model", default="", help="Only usage of this model, by its key in the configuration.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="The output format.",
)
@connection_options
@client_command
async def usage(
    connection: Connection,
    by: list[str],
    since: datetime | None,
    until: datetime | None,
    bucket: Literal["total", "day", "hour"],
    tenant: str,
    agent: str,
    model: str,
    kind: str,
) -> int:
    """Show usage: tasks, calls, tokens and cost.

    Times are UTC. For example, the usage of one month: agent-service usage --since 2026-07-01 --until 2026-08-01 --by
    agent,model
    """

    async def show(client: AsyncClient) -> int:
        rows = await client.get_usage(
            by=by, since=since, until=until, bucket=bucket, tenant=tenant, agent=agent, model=model
        )
        groups = [group for group in GROUPS if group in by]
        for line in _lines(rows, kind, groups, has_time=bucket != "total"):
            click.echo(line)
        unpriced = sum(row.unpriced_calls for row in rows)
        if unpriced and kind == "table":
            click.echo(f"note: the cost does not include {unpriced} calls of models without a price", err=True)
        return 0

    return await with_client(connection, show)


def _lines(rows: Sequence[UsageRow], kind: str, groups: Sequence[str], *, has_time: bool) -> Iterator[str]:
    match kind:
        case "json":
            return (MessageToJson(row, indent=None) for row in rows)
        case "csv":
            return _csv(rows)
        case _:
            return _table(rows, ["start_time"] * has_time + list(groups))


def _csv(rows: Sequence[UsageRow]) -> Iterator[str]:
    for cells in (CSV_COLUMNS, *([_cell(row, column) for column in CSV_COLUMNS] for row in rows)):
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(cells)
        yield line.getvalue()


def _table(rows: Sequence[UsageRow], names: Sequence[str]) -> Iterator[str]:
    """Align names left and numbers right. Add a row with the sum unless there is exactly one row."""
    heads = ["TIME" if name == "start_time" else name.upper() for name in names]
    table = [[*heads, *TABLE_HEADS]]
    table += [[_cell(row, column) for column in (*names, *TABLE_COLUMNS)] for row in rows]
    if len(rows) != 1:
        total = _sum(rows)
        table.append(
            [*(["TOTAL", *[""] * len(names)][: len(names)]), *(_cell(total, column) for column in TABLE_COLUMNS)]
        )
    return table_lines(table, right=len(TABLE_COLUMNS))


def _cell(row: UsageRow, column: str) -> str:
    match column:
        case "start_time":
            return f"{row.start_time.ToDatetime():%Y-%m-%dT%H:%MZ}" if row.HasField("start_time") else ""
        case "cost":
            return money(row.cost_nanos, decimals_min=2)
        case "estimated_cost":
            return money(row.estimated_cost_nanos, decimals_min=2)
    return str(getattr(row, column))


def _sum(rows: Sequence[UsageRow]) -> UsageRow:
    numbers = [field.name for field in UsageRow.DESCRIPTOR.fields if field.cpp_type == field.CPPTYPE_INT64]
    return UsageRow(**{name: sum(getattr(row, name) for row in rows) for name in numbers})
