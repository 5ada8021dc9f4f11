"""The standard health service, over statuses that others set.

Our own rather than the package's: there one watcher that does not read blocks every change of status. Here each watcher
looks for the newest status whenever it is ready to write, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import grpc
from grpc_health.v1 import health_pb2 as pb

from agent_service.server.call import SERVICE, Context
from agent_service.server.handlers import decode

SERVING = pb.HealthCheckResponse.SERVING
NOT_SERVING = pb.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN

LIVENESS = "liveness"
READINESS = "readiness"
MODEL_PREFIX = "model/"
# Names that tell whether to send work here: they go together.
READY_NAMES = ("", SERVICE, READINESS)


class Health:
    """What is served under each name. Liveness is SERVING for as long as the process can answer at all."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {LIVENESS: SERVING, **dict.fromkeys(READY_NAMES, NOT_SERVING)}
        self._changed = asyncio.Event()
        self._ended = False

    def set_ready(self, ready: bool) -> None:
        """Set all names of readiness at once."""
        self._statuses |= dict.fromkeys(READY_NAMES, SERVING if ready else NOT_SERVING)
        self._wake()

    def set_models(self, models: Mapping[str, bool]) -> None:
        """Set whether each of these models can be used, under `model/<key>`; of no others is anything known."""
        others = {name: status for name, status in self._statuses.items() if not name.startswith(MODEL_PREFIX)}
        told = {MODEL_PREFIX + model: SERVING if usable else NOT_SERVING for model, usable in models.items()}
        self._statuses = others | told
        self._wake()

    def end(self) -> None:
        """End every watcher: an open one would hold up the server's stop for its whole grace."""
        self._ended = True
        self._wake()

    def status(self, name: str) -> int | None:
        """The status of a name; None if it is unknown."""
        return self._statuses.get(name)

    async def watch(self, name: str) -> AsyncIterator[int]:
        """The status now, and again whenever it is another one."""
        told: int | None = None
        while not self._ended:
            changed = self._changed
            status = self._statuses.get(name, SERVICE_UNKNOWN)
            if status != told:
                told = status
                yield status
                continue
            await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def health_handlers(health: Health) -> grpc.GenericRpcHandler:
    """`grpc.health.v1.Health`."""

    async def check(request: bytes, context: Context) -> pb.HealthCheckResponse:
        status = health.status(decode(pb.HealthCheckRequest, request).service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return pb.HealthCheckResponse(status=status)

    async def watch(request: bytes, _: Context) -> AsyncIterator[pb.HealthCheckResponse]:
        async for status in health.watch(decode(pb.HealthCheckRequest, request).service):
            yield pb.HealthCheckResponse(status=status)

    response = pb.HealthCheckResponse.SerializeToString
    return grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health",
        {
            "Check": grpc.unary_unary_rpc_method_handler(check, None, response),
            "Watch": grpc.unary_stream_rpc_method_handler(watch, None, response),
        },
    )
