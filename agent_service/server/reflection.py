"""Server reflection, v1 and v1alpha, for grpcurl and other tools that do not have the protos."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

import grpc
from google.protobuf.message import Message

from agent_service.server.call import Call
from agent_service.server.methods import REFLECTION
from agent_service.server.transport.base import Context

if TYPE_CHECKING:
    from agent_service.server.reflection_servicer import ReflectionServicer


def reflection_handlers(shown: Sequence[str]) -> list[grpc.GenericRpcHandler]:
    """Return the handlers of both versions, which show these services. The first call reads their descriptions."""

    @cache
    def servicer() -> ReflectionServicer:
        # Imported here: every start would pay for it, and few servers are asked.
        from agent_service.server.reflection_servicer import ReflectionServicer

        return ReflectionServicer(shown)

    def info(requests: AsyncIterator[bytes], context: Context | Call) -> AsyncIterator[Message]:
        return servicer().info(requests, context)

    method: grpc.RpcMethodHandler[bytes, Message]
    method = grpc.stream_stream_rpc_method_handler(info, None, lambda response: response.SerializeToString())
    methods = {"ServerReflectionInfo": method}
    return [grpc.method_handlers_generic_handler(service, methods) for service in REFLECTION]
