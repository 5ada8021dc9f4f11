"""The standard health service. Other parts set the statuses.

An implementation of its own: in the package's, one watcher that does not read blocks every change of status. Here each
watcher reads the newest status when it is ready to write, and nothing waits for it. The package of grpcio 1.80 also
lacks `List`, which the protocol has had since 2025.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2 as pb

from agent_service.server.call import Call
from agent_service.server.handlers import decode
from agent_service.server.methods import HEALTH, SERVICE

SERVING = pb.HealthCheckResponse.SERVING
NOT_SERVING = pb.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN

STARTUP = "startup"
LIVENESS = "liveness"
READINESS = "readiness"
MODEL_PREFIX = "model/"
CHECK_PREFIX = "check/"
# Names that report readiness: they change together.
READY_NAMES = ("", SERVICE, READINESS)


class Health:
    """The status of each name.

    Liveness is SERVING for as long as the process can answer, startup from the end of the start on.
    """

    def __init__(self) -> None:
        waiting = dict.fromkeys((STARTUP, *READY_NAMES), NOT_SERVING)
        self._statuses: dict[str, int] = {LIVENESS: SERVING, **waiting}
        self._changed = asyncio.Event()
        self._ended = False

    def set_started(self) -> None:
        """Set startup to SERVING: everything before the first call is done."""
        self._statuses[STARTUP] = SERVING
        self._wake()

    def set_ready(self, ready: bool) -> None:
        """Set all names of readiness at once."""
        self._statuses |= dict.fromkeys(READY_NAMES, SERVING if ready else NOT_SERVING)
        self._wake()

    def set_models(self, models: Mapping[str, bool]) -> None:
        """Set whether each of these models can be used, under `model/<key>`; all other models are removed."""
        self._set_group(MODEL_PREFIX, models)

    def set_checks(self, checks: Mapping[str, bool]) -> None:
        """Set whether each of these readiness checks passes, under `check/<name>`."""
        self._set_group(CHECK_PREFIX, checks)

    def end(self) -> None:
        """End every watcher: an open one would delay the server's stop by its whole grace."""
        self._ended = True
        self._wake()

    def status(self, name: str) -> int | None:
        """Return the status of a name; None if it is unknown."""
        return self._statuses.get(name)

    def statuses(self) -> Mapping[str, int]:
        """Return the status of every name."""
        return self._statuses

    async def watch(self, name: str) -> AsyncIterator[int]:
        """Yield the status now and after every change, including the last one before the end."""
        sent: int | None = None
        while True:
            changed = self._changed
            status = self._statuses.get(name, SERVICE_UNKNOWN)
            if status != sent:
                sent = status
                yield status
                continue
            if self._ended:
                return
            await changed.wait()

    def _set_group(self, prefix: str, group: Mapping[str, bool]) -> None:
        others = {name: status for name, status in self._statuses.items() if not name.startswith(prefix)}
        self._statuses = others | {prefix + name: SERVING if well else NOT_SERVING for name, well in group.items()}
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def health_handlers(health: Health) -> grpc.GenericRpcHandler:
    """Return the handlers of `grpc.health.v1.Health`."""

    async def check(request: bytes, call: Call) -> pb.HealthCheckResponse:
        status = health.status(decode(pb.HealthCheckRequest, request).service)
        if status is None:
            await call.abort(grpc.StatusCode.NOT_FOUND, "unknown service", ())
        return pb.HealthCheckResponse(status=status)

    async def watch(request: bytes, _: Call) -> AsyncIterator[pb.HealthCheckResponse]:
        async for status in health.watch(decode(pb.HealthCheckRequest, request).service):
            yield pb.HealthCheckResponse(status=status)

    list_response = list_response_class()

    async def list_all(_: bytes, __: Call) -> Any:
        listed = list_response()
        for name, status in health.statuses().items():
            listed.statuses[name].status = status
        return listed

    response = pb.HealthCheckResponse.SerializeToString
    return grpc.method_handlers_generic_handler(
        HEALTH,
        {
            "Check": grpc.unary_unary_rpc_method_handler(check, None, response),
            "List": grpc.unary_unary_rpc_method_handler(list_all, None, list_response.SerializeToString),
            "Watch": grpc.unary_stream_rpc_method_handler(watch, None, response),
        },
    )


def list_response_class() -> Any:
    """Return the class of `grpc.health.v1.HealthListResponse`: `map<string, HealthCheckResponse> statuses = 1`.

    It has a descriptor pool of its own, so that it does not conflict once the package has this message.
    """
    pool = DescriptorPool()
    pool.AddSerializedFile(pb.DESCRIPTOR.serialized_pb)
    package = pb.DESCRIPTOR.package
    file = FileDescriptorProto(
        name="grpc/health/v1/list.proto", package=package, syntax="proto3", dependency=[pb.DESCRIPTOR.name]
    )
    message = file.message_type.add(name="HealthListResponse")
    entry = message.nested_type.add(name="StatusesEntry")
    entry.options.map_entry = True
    optional, repeated = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED
    text, nested = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_MESSAGE
    entry.field.add(name="key", number=1, label=optional, type=text)
    value = f".{package}.HealthCheckResponse"
    entry.field.add(name="value", number=2, label=optional, type=nested, type_name=value)
    entries = f".{package}.HealthListResponse.StatusesEntry"
    message.field.add(name="statuses", number=1, label=repeated, type=nested, type_name=entries)
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{package}.HealthListResponse"))
