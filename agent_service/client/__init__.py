"""The Python client. Needs grpcio, protobuf and googleapis-common-protos, and nothing of the server.

- `aio`, `sync`: the client for asyncio, and for code without it
- `channel`: how a client connects, and which calls it repeats by itself; `tls`, `key`: how it proves who it is
- `requests`: requests from plain values
- `following`: calls that survive a restart of the server
- `errors`: a failed call as data
"""

from agent_service.client.aio import AsyncClient
from agent_service.client.errors import CallError
from agent_service.client.requests import approve, deny, failure, reply, result, run_again
from agent_service.client.sync import Client
from agent_service.client.tls import Tls

__all__ = [
    "AsyncClient",
    "CallError",
    "Client",
    "Tls",
    "approve",
    "deny",
    "failure",
    "reply",
    "result",
    "run_again",
]
