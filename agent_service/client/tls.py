"""TLS of a client's connections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

Options = Sequence[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS settings. All files are PEM, and are read when the client is created.

    `ca_file` has the trusted authorities of the server's certificate; without it, those that grpc trusts, or that
    GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names. `cert_file` and `key_file` are the client's own, for a server that requires
    them. `server_name` is the name expected in the server's certificate, if it differs from the target's.

        AsyncClient("agents.example:9000", tls=Tls(), api_key=key)
        AsyncClient("10.0.0.7:9000", tls=Tls(ca_file="ca.pem", server_name="agents.example"), api_key=key)
    """

    ca_file: str | Path | None = None
    cert_file: str | Path | None = None
    key_file: str | Path | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("a client certificate needs both cert_file and key_file")

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises:
            OSError: a file cannot be read.
            ValueError: a file is not PEM; grpc itself would only report that no connection can be made.
        """
        return grpc.ssl_channel_credentials(_read(self.ca_file), _read(self.key_file), _read(self.cert_file))


def channel(target: str, tls: Tls | None, options: Options) -> aio.Channel:
    """Return a connection to the target, without TLS if `tls` is None."""
    if tls is None:
        return aio.insecure_channel(target, options=options)
    if tls.server_name:
        options = (*options, ("grpc.ssl_target_name_override", tls.server_name))
    return aio.secure_channel(target, tls.credentials(), options=options)


def _read(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    content = Path(path).read_bytes()
    if b"-----BEGIN " not in content:
        raise ValueError(f"{path}: is not a PEM file")
    return content
