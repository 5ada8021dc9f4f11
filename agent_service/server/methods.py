"""One record for each RPC: the scope it needs, whether it stays open, whether it starts work.

The records of AgentService come from the options in the contract (`method_options.proto`). Standard services have no
such options; RULES_OF_OTHERS has their records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from agent_service.keys.base import Scope
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.method_options_pb2 import rules

SERVICE = "agent_service.v1.AgentService"
HEALTH = "grpc.health.v1.Health"
REFLECTION_PACKAGES = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
REFLECTION = tuple(f"{package}.ServerReflection" for package in REFLECTION_PACKAGES)
UNKNOWN = "unknown/unknown"


@dataclass(frozen=True, slots=True)
class Method:
    """An RPC: its path, as in logs and metrics, and the rules for its calls.

    The default path stands for all methods that the server does not have: callers invent paths, and none may become a
    metric label.

    A public method needs no key, is logged at DEBUG and is not traced. Any other needs a key with the scope; None: any
    valid key. A call that does not stay open must be answered within the server's timeout. A call that starts work
    counts against the rate limits. A repeatable call has the same effect when it is repeated.
    """

    path: str = UNKNOWN
    is_public: bool = False
    scope: Scope | None = None
    stays_open: bool = False
    starts_work: bool = False
    is_repeatable: bool = False


_PUBLIC = Method(is_public=True, is_repeatable=True)
# The records of standard services, by service and method name.
RULES_OF_OTHERS: Mapping[str, Mapping[str, Method]] = MappingProxyType(
    {
        HEALTH: {"Check": _PUBLIC, "List": _PUBLIC, "Watch": replace(_PUBLIC, stays_open=True)},
        **{service: {"ServerReflectionInfo": _PUBLIC} for service in REFLECTION},
    }
)


class Methods:
    """The methods of all services that this server may serve, by path."""

    def __init__(self, methods: Iterable[Method]) -> None:
        self._by_path = {method.path: method for method in methods}
        public = [method.path for method in self._by_path.values() if method.is_public]
        self._public_prefixes = tuple({path[: path.rindex("/") + 1] for path in public})

    def __iter__(self) -> Iterator[Method]:
        return iter(self._by_path.values())

    @property
    def services(self) -> Sequence[str]:
        """The full names of the services."""
        return tuple(dict.fromkeys(path.split("/")[1] for path in self._by_path))

    def is_public(self, path: str) -> bool:
        """Return whether a path belongs to a public service, even if the service has no such method."""
        return path.startswith(self._public_prefixes)


def read_methods(
    ours: Sequence[ServiceDescriptor] = (pb.DESCRIPTOR.services_by_name["AgentService"],),
    others: Mapping[str, Mapping[str, Method]] = RULES_OF_OTHERS,
) -> Methods:
    """Read the options of our own services, and add the records of the others.

    Raises:
        ValueError: a method has no rules, or a scope that keys cannot have.
    """
    methods = [_method_of_ours(method) for service in ours for method in service.methods]
    for service, by_name in others.items():
        methods += [replace(method, path=f"/{service}/{name}") for name, method in by_name.items()]
    return Methods(methods)


def _method_of_ours(method: MethodDescriptor) -> Method:
    options: MethodOptions = method.GetOptions()
    if not options.HasExtension(rules):
        raise ValueError(f"{method.full_name} has no option (agent_service.v1.rules)")
    its = options.Extensions[rules]
    if its.scope and its.scope not in set(Scope):
        raise ValueError(f"{method.full_name} has the scope '{its.scope}', which no key can have")
    return Method(
        path=f"/{method.containing_service.full_name}/{method.name}",
        scope=Scope(its.scope) if its.scope else None,
        stays_open=its.stays_open,
        starts_work=its.starts_work,
        is_repeatable=options.idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN,
    )
