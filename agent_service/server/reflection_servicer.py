"""Answers the requests of server reflection.

The package has only v1alpha; v1 has the same messages under another name. It also does not find methods by name, and it
sends the files embedded in Python's code, which lack comments and JSON names: `contract.binpb` has both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from agent_service.server.call import Call
from agent_service.server.handlers import decode
from agent_service.server.methods import REFLECTION, REFLECTION_PACKAGES
from agent_service.server.transport.base import Context

ALPHA = "grpc.reflection.v1alpha"


class ReflectionServicer(reflection.aio.ReflectionServicer):  # type: ignore[misc] # the package ships no types
    """Finds a method by its service, which the pool does not, and sends files as they were added."""

    def __init__(self, shown: Sequence[str]) -> None:
        self._files = _files(shown)
        pool = DescriptorPool()
        for file in self._files.values():
            pool.AddSerializedFile(file)
        super().__init__(shown, pool=pool)

    def info(
        self, requests: AsyncIterator[bytes], context: Context | Call
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        """Return the responses to undecoded requests."""
        decoded = (decode(reflection_pb2.ServerReflectionRequest, request) async for request in requests)
        responses: AsyncIterator[reflection_pb2.ServerReflectionResponse]
        responses = self.ServerReflectionInfo(decoded, context)
        return responses

    def _file_by_filename(self, request: Any, filename: str) -> Any:
        return self._as_added(super()._file_by_filename(request, filename))

    def _file_containing_symbol(self, request: Any, fully_qualified_name: str) -> Any:
        service, _, method = fully_qualified_name.rpartition(".")
        try:
            if method in self._pool.FindServiceByName(service).methods_by_name:
                fully_qualified_name = service
        except KeyError:
            pass  # not a method: another symbol, or none
        return self._as_added(super()._file_containing_symbol(request, fully_qualified_name))

    def _as_added(self, response: Any) -> Any:
        """Return the response with the files as they were added, because the pool drops comments."""
        if not response.HasField("file_descriptor_response"):
            return response
        sent = response.file_descriptor_response.file_descriptor_proto
        names = [FileDescriptorProto.FromString(file).name for file in sent]
        sent[:] = [self._files[name] for name in names]
        return response


def _files(shown: Sequence[str]) -> Mapping[str, bytes]:
    """Return the files of these services with their imports, of the error details, and of both reflection versions, so
    that everything that is listed, or attached to a status, can be described. By name, each after its imports.
    """
    contract = FileDescriptorSet.FromString((files("agent_service.server") / "contract.binpb").read_bytes())
    commented = {file.name: file.SerializeToString() for file in contract.file}
    pool = descriptor_pool.Default()
    services = [pool.FindFileContainingSymbol(service) for service in shown if service not in REFLECTION]
    found: dict[str, bytes] = {}
    for file in (reflection_pb2.DESCRIPTOR, error_details_pb2.DESCRIPTOR, *services):
        for each in _with_imports(file):
            found[each.name] = commented.get(each.name, each.serialized_pb)
    v1 = _reflection_v1()
    found[v1.name] = v1.SerializeToString()
    return found


def _with_imports(file: Any) -> Iterator[Any]:
    for imported in file.dependencies:
        yield from _with_imports(imported)
    yield file


def _reflection_v1() -> FileDescriptorProto:
    """Return the file of v1alpha under the name of v1."""
    v1 = REFLECTION_PACKAGES[0]
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
