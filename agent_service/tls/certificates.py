"""A certificate, its key, and the trusted authorities, as PEM."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Certificates:
    """A certificate with its chain and its key, as PEM. `client_ca` has the authorities of the clients that may
    connect; None: clients need no certificate. `not_after` is the earliest expiry in the chain.
    """

    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)
    client_ca: bytes | None = field(repr=False)
    not_after: datetime
