"""Reads certificates and a key from PEM files, and reports all their problems.

A problem names the file and never repeats its content. Importing this module takes a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509 import Certificate, load_pem_x509_certificates

from agent_service.errors import ConfigError
from agent_service.tls.certificates import Certificates

RSA_BITS_MIN = 2048
# The curves that gRPC's TLS library signs with: with another key it starts, and then every handshake fails.
CURVES = (ec.SECP256R1, ec.SECP384R1)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """The paths of the files."""

    chain: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> Sequence[Path]:
        return (self.chain, self.key, *((self.client_ca,) if self.client_ca else ()))

    def parse(self, contents: Sequence[bytes], now: datetime | None = None) -> Certificates:
        """Return the contents of `paths` as Certificates.

        Raises:
            ConfigError: not PEM, not valid now, a key of another certificate, or of a kind that gRPC does not support;
                every problem at once.
        """
        now = now or datetime.now(UTC)
        pem, key_pem, *client_ca_pem = contents
        chain, key = _certificates(pem), _private_key(key_pem)
        problems = [f"{self.chain}: {flaw}" for flaw in _chain_flaws(chain, now)]
        if isinstance(key, str):
            problems.append(f"{self.key}: {key}")
        elif chain and key.public_key() != chain[0].public_key():
            problems.append(f"{self.key}: is not the key of the first certificate of {self.chain}")
        if client_ca_pem and (flaw := _authorities_flaw(_certificates(client_ca_pem[0]), now)):
            problems.append(f"{self.client_ca}: {flaw}")
        if problems:
            raise ConfigError(problems)
        ends = min(certificate.not_valid_after_utc for certificate in chain)
        return Certificates(pem, key_pem, client_ca_pem[0] if client_ca_pem else None, ends)


def _certificates(pem: bytes) -> list[Certificate]:
    try:
        return load_pem_x509_certificates(pem)
    except ValueError:
        return []


def _private_key(pem: bytes) -> PrivateKeyTypes | str:
    """Return the key, or the problem with it."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        return "has a password; remove it, and make the file readable only for the service"
    except (ValueError, UnsupportedAlgorithm):
        return "holds no private key in PEM form"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= RSA_BITS_MIN:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, CURVES):
        return key
    return f"must be an RSA key of at least {RSA_BITS_MIN} bits, or one of the curves P-256 and P-384"


def _chain_flaws(chain: Sequence[Certificate], now: datetime) -> Iterator[str]:
    if not chain:
        yield "holds no certificate in PEM form"
    for index, certificate in enumerate(chain, 1):
        which = f"certificate {index} of {len(chain)} " if len(chain) > 1 else ""
        if now > certificate.not_valid_after_utc:
            yield f"{which}expired at {_instant(certificate.not_valid_after_utc)}"
        elif now < certificate.not_valid_before_utc:
            yield f"{which}is not valid before {_instant(certificate.not_valid_before_utc)}"


def _authorities_flaw(authorities: Sequence[Certificate], now: datetime) -> str:
    """Return the problem with a bundle, which may hold expired authorities beside valid ones; "" if there is none."""
    if not authorities:
        return "holds no certificate in PEM form"
    if not any(each.not_valid_before_utc <= now <= each.not_valid_after_utc for each in authorities):
        return "holds no certificate that is valid now"
    return ""


def _instant(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
