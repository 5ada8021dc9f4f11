"""Server reflection, v1 and v1alpha: what grpcurl and the like ask a server that they have no protos of.

The package has v1alpha alone; v1 has the same messages under another name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from agent_service.server.call import SERVICE, Context
from agent_service.server.handlers import decode

PACKAGES = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
SHOWN = (SERVICE, "grpc.health.v1.Health", *(f"{package}.ServerReflection" for package in PACKAGES))


def reflection_handlers(shown: Sequence[str] = SHOWN) -> list[grpc.GenericRpcHandler]:
    """One handler for each of the two names, for these services."""
    servicer = reflection.aio.ReflectionServicer(shown)

    def info(
        requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        decoded = (decode(reflection_pb2.ServerReflectionRequest, request) async for request in requests)
        responses: AsyncIterator[reflection_pb2.ServerReflectionResponse]
        responses = servicer.ServerReflectionInfo(decoded, context)
        return responses

    response = reflection_pb2.ServerReflectionResponse.SerializeToString
    method: grpc.RpcMethodHandler[bytes, reflection_pb2.ServerReflectionResponse]
    method = grpc.stream_stream_rpc_method_handler(info, None, response)
    methods = {"ServerReflectionInfo": method}
    return [grpc.method_handlers_generic_handler(f"{package}.ServerReflection", methods) for package in PACKAGES]
