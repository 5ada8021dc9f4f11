"""`agent-service tools list|invoke`."""

from __future__ import annotations

import json

import click
from google.protobuf.json_format import MessageToDict, MessageToJson

from agent_service.cli.connection import EXIT_FAILED, Connection, client_command, connection_options, with_client
from agent_service.cli.parameter_types import Seconds
from agent_service.client import AsyncClient
from agent_service.errors import reason_name
from agent_service.text.enum_names import short_name
from agent_service.v1.tool_pb2 import ToolSideEffect


@click.group()
def tools() -> None:
    """List tools, or run a tool."""


@tools.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, with the whole schema.")
@connection_options
@client_command
async def list_tools(connection: Connection, as_json: bool) -> int:
    """List the tools that the key may use."""

    async def show(client: AsyncClient) -> int:
        for tool in await client.list_tools():
            if as_json:
                click.echo(MessageToJson(tool, indent=None))
                continue
            arguments = ", ".join(json.loads(tool.input_schema_json).get("properties", {}))
            effect = short_name(ToolSideEffect, tool.side_effect).lower()
            first_line = tool.description.partition("\n")[0]
            click.echo(f"{tool.name}({arguments})  [{effect}]  {first_line}")
        return 0

    return await with_client(connection, show)


@tools.command()
@click.argument("name")
@click.argument("inputs", default="{}")
@click.option("--timeout", "timeout_s", type=Seconds(), help="The maximum duration of the tool in seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole response as JSON.")
@connection_options
@client_command
async def invoke(connection: Connection, name: str, inputs: str, timeout_s: float | None, as_json: bool) -> int:
    """Run a tool and print its result as JSON.

    Calls the tool NAME with INPUTS, a JSON object. For example: agent-service tools invoke calculator '{"expression":
    "17.5% of 2340"}'
    """

    async def run(client: AsyncClient) -> int:
        response = await client.invoke_tool(name, inputs, timeout_s=timeout_s)
        if as_json:
            click.echo(MessageToJson(response, indent=None))
        elif response.HasField("error"):
            click.echo(f"failed: {reason_name(response.error.reason)}: {response.error.message}", err=True)
        else:
            click.echo(json.dumps(MessageToDict(response.output), ensure_ascii=False))
        return EXIT_FAILED if response.HasField("error") else 0

    return await with_client(connection, run)
