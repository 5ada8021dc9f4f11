"""Server reflection, v1 and v1alpha: what grpcurl and the like ask a server that they have no protos of.

The package has v1alpha alone; v1 has the same messages under another name. Nor does it find methods by their names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from agent_service.server.call import SERVICE, Context
from agent_service.server.handlers import decode

ALPHA = "grpc.reflection.v1alpha"
PACKAGES = ("grpc.reflection.v1", ALPHA)
SHOWN = (SERVICE, "grpc.health.v1.Health", *(f"{package}.ServerReflection" for package in PACKAGES))


class _Servicer(reflection.aio.ReflectionServicer):  # type: ignore[misc] # the package ships no types
    """Finds a method by its service, where the pool does not find it by itself."""

    def _file_containing_symbol(self, request: Any, fully_qualified_name: str) -> Any:
        service, _, method = fully_qualified_name.rpartition(".")
        try:
            if method in self._pool.FindServiceByName(service).methods_by_name:
                fully_qualified_name = service
        except KeyError:
            pass  # no service: the symbol is another one, or none
        return super()._file_containing_symbol(request, fully_qualified_name)


def reflection_handlers(shown: Sequence[str] = SHOWN) -> list[grpc.GenericRpcHandler]:
    """One handler for each of the two names, for these services."""
    servicer = _Servicer(shown, pool=_pool(shown))

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


def _pool(shown: Sequence[str]) -> DescriptorPool:
    """The files of these services with what they import, of the details of errors, and of both names of reflection: all
    that is listed, or comes with a status, can be described. In a pool of its own, for a later package may bring the
    file of v1 itself.
    """
    pool = DescriptorPool()
    known = descriptor_pool.Default()
    added: set[str] = set()
    for file in (reflection_pb2.DESCRIPTOR, error_details_pb2.DESCRIPTOR):
        _add(pool, file, added)
    pool.Add(_reflection_v1())
    for service in shown:
        if not service.startswith(PACKAGES):
            _add(pool, known.FindFileContainingSymbol(service), added)
    return pool


def _add(pool: DescriptorPool, file: Any, added: set[str]) -> None:
    if file.name in added:
        return
    added.add(file.name)
    for imported in file.dependencies:
        _add(pool, imported, added)
    pool.AddSerializedFile(file.serialized_pb)


def _reflection_v1() -> FileDescriptorProto:
    """The file of v1alpha under the name of v1."""
    v1 = PACKAGES[0]
    file = FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    file.name, file.package = file.name.replace("v1alpha", "v1"), v1
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(f".{ALPHA}.", f".{v1}.")
    for method in file.service[0].method:
        method.input_type = method.input_type.replace(f".{ALPHA}.", f".{v1}.")
        method.output_type = method.output_type.replace(f".{ALPHA}.", f".{v1}.")
    return file
