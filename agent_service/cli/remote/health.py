"""`agent-service health`."""

from __future__ import annotations

import click

from agent_service.cli.connection import EXIT_FAILED, Connection, client_command, connection_options, with_client
from agent_service.cli.parameter_types import Seconds
from agent_service.client import AsyncClient


@click.command()
@click.argument("service", default="")
@click.option("--timeout", "timeout_s", type=Seconds(), default=5.0, show_default=True, help="Seconds to wait.")
@connection_options
@client_command
async def health(connection: Connection, service: str, timeout_s: float) -> int:
    """Check the health of a server. Exits 0 if SERVING, 1 if not, 5 if it cannot be reached.

    SERVICE is a name that the server knows: `liveness`, `readiness`, `agent_service.v1.AgentService`, `model/KEY` for a
    model of its configuration, or `check/NAME` for a check of readiness: config, store, provider, tools. Without
    SERVICE, checks the server as a whole. Without --target, calls the local HEALTH_PORT if it is set.
    """

    async def check(client: AsyncClient) -> int:
        status = await client.health(service, deadline_s=timeout_s)
        click.echo(status)
        return 0 if status == "SERVING" else EXIT_FAILED

    return await with_client(connection.for_health(), check)
