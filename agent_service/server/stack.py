"""The interceptors around every call, as one list in the order in which they run.

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
    """The parts of a server. `certificates` returns the current certificates; None: no TLS.

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
        """True if callers are asked for client certificates."""
        return self.certificates is not None and self.certificates().client_ca is not None


def interceptors(parts: ServerParts, bounds: AdmissionBounds) -> list[Interceptor[Any]]:
    """Return the interceptors of the port that callers reach."""
    stack: list[Interceptor[Any] | None] = [
        # First, so that everything after it, refusals included, can name the call.
        RequestId(),
        # Before everything that can refuse a call, so that refusals are logged.
        AccessLog(parts.log),
        # The same for counts.
        RpcMetrics(parts.metrics),
        # Before auth, which needs the identities. gRPC has the certificate at the begin of the call.
        PeerIdentity() if parts.verifies_clients else None,
        # Before auth, whose refusals it counts by peer.
        AuthFailures(parts.auth_failures) if parts.auth_failures else None,
        # Before all limits: a call without a valid key must not use up a tenant's quota.
        Auth(parts.keys),
        # After auth, because only calls of known callers are traced.
        Tracing(parts.tracer) if parts.tracer is not NO_TRACER else None,
        # After auth, because places are counted by key; refused calls take none.
        Admission(bounds, parts.metrics),
        # Last: a call that is refused above costs no quota.
        RateLimit(parts.limiter),
    ]
    return [interceptor for interceptor in stack if interceptor is not None]


def health_interceptors(parts: ServerParts) -> Sequence[Interceptor[Any]]:
    """Return the interceptors of the health port, which is for probes only: no keys, no limits."""
    return [RequestId(), AccessLog(parts.log), RpcMetrics(parts.metrics)]
