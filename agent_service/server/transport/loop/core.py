"""The names of `grpc._cython.cygrpc` that this package uses. The module is not public API (docs/adr/0035).

`grpc.server`, the synchronous server of grpcio, is written on the same names. grpcio is pinned, and `make try-grpcio`
tries other versions.
"""

from __future__ import annotations

from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined] # no public module

CompletionQueue: Any = cygrpc.CompletionQueue
CoreServer: Any = cygrpc.Server
ReceiveClose: Any = cygrpc.ReceiveCloseOnServerOperation
ReceiveMessage: Any = cygrpc.ReceiveMessageOperation
SendInitialMetadata: Any = cygrpc.SendInitialMetadataOperation
SendMessage: Any = cygrpc.SendMessageOperation
SendStatus: Any = cygrpc.SendStatusFromServerOperation
auth_context: Any = cygrpc.auth_context

QUEUE_SHUTDOWN: int = cygrpc.CompletionType.queue_shutdown
QUEUE_TIMEOUT: int = cygrpc.CompletionType.queue_timeout
OK: int = cygrpc.StatusCode.ok
UNKNOWN: int = cygrpc.StatusCode.unknown
UNIMPLEMENTED: int = cygrpc.StatusCode.unimplemented

NO_FLAGS = 0
# A batch of operations was accepted.
CALL_OK = 0
# The deadline of a call without one is later than this, in seconds of Unix time.
NEVER_S = 1e15


def core_credentials(credentials: grpc.ServerCredentials) -> Any:
    """Credentials as the core's server takes them."""
    return credentials._credentials  # type: ignore[attr-defined] # private, as all of this module
