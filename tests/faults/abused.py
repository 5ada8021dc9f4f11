"""A server to be attacked, with an innocent caller and what is secret in it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agent_service.client import AsyncClient
from agent_service.keys.base import Scope
from agent_service.keys.secret import generate, hash_text, public_id_of
from tests.e2e.processes import ServerProcess, server_process
from tests.fakes.identity_provider import AUDIENCE, IdentityProvider
from tests.faults.attacks.victim import Victim
from tests.faults.innocent import Innocent, innocent

TENANTS = 200
SCOPES = [str(scope) for scope in Scope if scope is not Scope.ADMIN]
# What waits for a client waits for seconds here, so that what an attack has left is gone soon.
SETTINGS = {
    "HANDSHAKE_TIMEOUT": "1",
    "CALL_TIMEOUT": "2",
    "CONNECTIONS_MAX": "400",
    "RATE_LIMIT_CALLS": "1000000000",
    "RATE_LIMIT_TOKENS": "1000000000000",
    "AGENT_SERVICE_LOG_LEVEL": "DEBUG",
}


@dataclass
class Abused:
    """The server, an innocent caller of it, and how an attacker sees it."""

    server: ServerProcess
    innocent: Innocent
    victim: Victim


@asynccontextmanager
async def abused(directory: Path) -> AsyncIterator[Abused]:
    """Start all of them."""
    names = ["innocent", *(f"mallory-{number}" for number in range(TENANTS))]
    secrets = {name: generate(public_id_of(name)) for name in names}
    keys = [
        {"id": name, "hash": hash_text(secret), "tenant": name, "scopes": SCOPES, "agents": ["*"], "tools": ["*"]}
        for name, secret in secrets.items()
    ]
    (directory / "keys.yaml").write_text(json.dumps({"keys": keys}))
    provider = IdentityProvider()
    (directory / "jwks.json").write_bytes(provider.key_set())
    settings = SETTINGS | {
        "API_KEY": "",
        "API_KEYS_FILE": "keys.yaml",
        "JWT_ISSUER": provider.issuer,
        "JWT_AUDIENCE": AUDIENCE,
        "JWT_JWKS": str(directory / "jwks.json"),
    }
    mallory, *others = (secrets[name] for name in names[1:])
    async with server_process(directory, **settings) as server:
        async with AsyncClient(server.target, api_key=mallory) as client:
            task = await client.run("What is 17.5% of 2340?")
        victim = Victim(server.target, mallory, task.id, provider.token(), tuple(others))
        async with innocent(server.target, secrets["innocent"]) as caller:
            yield Abused(server, caller, victim)
