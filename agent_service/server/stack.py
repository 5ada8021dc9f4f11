"""The interceptors around every call, as one list: its order is the order of what happens to a call.

`on_call` runs from the first to the last, before the request is read; `on_end` in the reverse order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_service.keys.base import Keys
from agent_service.limits.base import Limiter
from agent_service.observe.log import EventLog
from agent_service.observe.metrics import Metrics
from agent_service.observe.trace import NO_TRACER, Tracer
from agent_service.server.interceptors.access_log import AccessLog
from agent_service.server.interceptors.admission import Admission, AdmissionBounds
from agent_service.server.interceptors.auth import Auth
from agent_service.server.interceptors.auth_failures import AuthFailures
from agent_service.server.interceptors.base import Interceptor
from agent_service.server.interceptors.metrics import RpcMetrics
from agent_service.server.interceptors.peer_identity import PeerIdentity
from agent_service.server.interceptors.rate_limit import RateLimit
from agent_service.server.interceptors.request_id import RequestId
from agent_service.server.interceptors.tracing import Tracing
from agent_service.server.readiness import Check
from agent_service.service.requests import RunTaskInput
from agent_service.service.service import Service
from agent_service.tls.certificates import Certificates


@dataclass(frozen=True, slots=True)
class ServerParts:
    """What a server is made of. Without `certificates` it speaks plain text; they may be others at every look.

    `models` returns which models can be used now. `auth_failures` counts failed authentications by peer; None: they are
    not limited.
    """

    service: Service
    run_input: type[RunTaskInput]
    keys: Keys
    limiter: Limiter
    checks: Mapping[str, Check]
    log: EventLog
    metrics: Metrics
    models: Callable[[], Mapping[str, bool]] = dict
    auth_failures: Limiter | None = None
    certificates: Callable[[], Certificates] | None = None
    tracer: Tracer = NO_TRACER

    @property
    def verifies_clients(self) -> bool:
        """Return whether callers may show certificates of their own."""
        return self.certificates is not None and self.certificates().client_ca is not None


def interceptors(parts: ServerParts, bounds: AdmissionBounds) -> list[Interceptor[Any]]:
    """The interceptors of the port that callers reach."""
    stack: list[Interceptor[Any] | None] = [
        # First, so that everything after it, also a refusal, can name the call.
        RequestId(),
        # Before everything that can refuse a call, so that refusals are logged.
        AccessLog(parts.log),
        # The same for counts.
        RpcMetrics(parts.metrics),
        # Before auth, which needs the identities: grpc surely has the certificate when the call begins.
        PeerIdentity() if parts.verifies_clients else None,
        # Before auth, whose refusals it counts by peer.
        AuthFailures(parts.auth_failures) if parts.auth_failures else None,
        # Before all limits: nobody uses up another's share without a key.
        Auth(parts.keys),
        # After auth, because only calls of known callers are traced.
        Tracing(parts.tracer) if parts.tracer is not NO_TRACER else None,
        # After auth, which finds the key; a call without one takes no place.
        Admission(bounds, parts.metrics),
        # Last: what is refused above costs no quota.
        RateLimit(parts.limiter),
    ]
    return [interceptor for interceptor in stack if interceptor is not None]


def health_interceptors(parts: ServerParts) -> Sequence[Interceptor[Any]]:
    """The interceptors of the port for health, which is for probes alone: no keys, no limits."""
    return [RequestId(), AccessLog(parts.log), RpcMetrics(parts.metrics)]
