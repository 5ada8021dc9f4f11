"""Authenticates callers: by an API key in `x-api-key` or `authorization: Bearer`, or else by a client certificate.

A key takes precedence over the certificate of the connection, because a proxy or a mesh has one certificate for many
callers. A wrong key is refused even with a valid certificate.
"""

from __future__ import annotations

from agent_service.errors import AuthenticationError, PermissionDeniedError
from agent_service.keys.base import Keys, Principal
from agent_service.server.call import Call
from agent_service.server.interceptors.base import Interceptor
from agent_service.v1 import error_reason_pb2 as reasons

BEARER = "bearer "
IDENTITY_LENGTH_MAX = 256


class Auth(Interceptor[None]):
    """Sets `call.principal`. Every call needs a key or a certificate, unless the method is public. Unknown methods need
    one too.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def on_call(self, call: Call) -> None:
        if call.method.is_public:
            return
        call.principal = principal = self._caller(call)
        scope = call.method.scope
        if scope is not None and scope not in principal.scopes:
            message = f"the key lacks the scope {scope}"
            raise PermissionDeniedError(reasons.ERROR_REASON_SCOPE_MISSING, message, metadata={"scope": scope})

    def _caller(self, call: Call) -> Principal:
        secret = _secret(call)
        if secret:
            return self._keys.authenticate(secret)
        if not call.identities:
            message = "send your key as x-api-key or authorization: Bearer metadata"
            raise AuthenticationError(reasons.ERROR_REASON_API_KEY_MISSING, message)
        principal = self._keys.identify(call.identities)
        if principal is None:
            message = "no key was sent, and no identity in the client's certificate stands for one"
            metadata = {"identity": call.identities[0][:IDENTITY_LENGTH_MAX]}
            raise AuthenticationError(reasons.ERROR_REASON_IDENTITY_UNKNOWN, message, metadata=metadata)
        return principal


def _secret(call: Call) -> str:
    """Return the key that a call carries; "" if it has none.

    Raises:
        AuthenticationError: API_KEY_INVALID, it carries different keys.
    """
    if not call.repeated and "authorization" not in call.metadata:
        return call.metadata.get("x-api-key", "")
    metadata = [*call.metadata.items(), *call.repeated]
    keys = {value for name, value in metadata if name == "x-api-key"}
    keys |= {
        value[len(BEARER) :].strip()
        for name, value in metadata
        if name == "authorization" and value.lower().startswith(BEARER)
    }
    keys.discard("")
    if len(keys) > 1:
        message = "the call carries different keys in its x-api-key and authorization metadata"
        raise AuthenticationError(reasons.ERROR_REASON_API_KEY_INVALID, message)
    return next(iter(keys), "")
