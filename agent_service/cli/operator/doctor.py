"""`agent-service doctor`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict

import click

from agent_service.client import AsyncClient, CallError

SIGNS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "problem": ("PROBLEM", "red")}
ASK_S = 3.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line: verdict, subject, text, advice.")
def doctor(as_json: bool) -> None:
    """Check this machine for problems that affect the service.

    Prints each finding with advice. Reads the same environment, .env and configuration file as `serve`, and checks
    configuration, keys, tokens, store, limits, providers, ports, clock and system, and whether a server that runs here
    is SERVING. Changes nothing. Exits 1 if there is a problem; warnings alone exit 0.
    """
    sys.exit(asyncio.run(_examine(as_json)))


async def _examine(as_json: bool) -> int:
    from agent_service.bootstrap.doctor.examination import Verdict, examine

    counts = dict.fromkeys(Verdict, 0)
    async for finding in examine(os.environ, _ask_health):
        counts[finding.verdict] += 1
        if as_json:
            click.echo(json.dumps(asdict(finding)))
            continue
        sign, colour = SIGNS[finding.verdict]
        click.echo(f"{click.style(f'{sign:<8}', fg=colour)} {finding.subject:<14} {finding.text}")
        if finding.advice:
            click.echo(f"{'':<24}→ {finding.advice}")
    if not as_json:
        click.echo(f"{counts[Verdict.PROBLEM]} problems, {counts[Verdict.WARNING]} warnings")
    return 1 if counts[Verdict.PROBLEM] else 0


async def _ask_health(target: str, service: str) -> str | None:
    async with AsyncClient(target) as client:
        try:
            return await client.health(service, deadline_s=ASK_S)
        except CallError:
            return None
