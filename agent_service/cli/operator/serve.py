"""`agent-service serve`."""

from __future__ import annotations

import gc
import os
import resource
import sys

import click

from agent_service.errors import ConfigError

# New objects between two collections; Python's own 700 costs a tenth of the CPU of a call.
GC_ALLOCATIONS = 20_000


@click.command()
@click.option("--host", help="The address to listen on.  [env: API_HOST; default: 0.0.0.0]")
@click.option("--port", type=click.IntRange(0, 65535), help="The port; 0 picks a free one.  [env: API_PORT]")
def serve(host: str | None, port: int | None) -> None:
    """Start the service. Settings come from the environment, .env and the configuration file."""
    # Imported objects stay: the collector would scan them in vain, a tenth of the time of the start.
    gc.disable()
    # A connection is an open file: the soft limit, often 1024, is less than CONNECTIONS_MAX.
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))
    import uvloop

    from agent_service.bootstrap import process
    from agent_service.bootstrap.catalog import tool_problems
    from agent_service.config.loader import load

    given = {"API_HOST": host, "API_PORT": None if port is None else str(port)}
    environ = os.environ | {name: value for name, value in given.items() if value is not None}
    try:
        gc.freeze()
        gc.set_threshold(GC_ALLOCATIONS, *gc.get_threshold()[1:])
        gc.enable()
        uvloop.run(process.serve(lambda: load(environ, tool_problems=tool_problems)))
    except ConfigError as error:
        for problem in error.problems:
            click.echo(problem, err=True)
        sys.exit(2)
