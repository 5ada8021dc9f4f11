"""The Python client. Needs grpcio, protobuf and googleapis-common-protos, and nothing of the server."""

from agent_service.client.aio import AsyncClient
from agent_service.client.errors import CallError

__all__ = ["AsyncClient", "CallError"]
