"""The Python client. Needs grpcio, protobuf and googleapis-common-protos, and nothing of the server."""

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
