"""A certificate authority of the tests: issues what a test asks for, also what nobody should trust."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from agent_service.client import Tls
from agent_service.tls.certificates import Certificates

DAY = timedelta(days=1)
LOOPBACK = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Both as files, each replaced at once; the key last, as careless scripts do it."""
        paths = directory / f"{name}.pem", directory / f"{name}.key"
        for path, content in zip(paths, (self.certificate, self.key), strict=True):
            replace(path, content)
        return paths


class Authority:
    """Signs certificates; `pem` is its own."""

    def __init__(self, name: str = "an authority", begins: timedelta = -DAY, ends: timedelta = DAY) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = self._signed(self._name, self._key, x509.BasicConstraints(True, None), (), begins, ends)
        self.pem = self._certificate.public_bytes(Encoding.PEM)

    def issue(
        self,
        *names: str,
        common_name: str = "nobody",
        begins: timedelta = -DAY,
        ends: timedelta = DAY,
        key: CertificateIssuerPrivateKeyTypes | None = None,
    ) -> Issued:
        """A certificate for these subject alternative names: URIs, addresses, host names. Times are from now."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        signed = self._signed(subject, key, x509.BasicConstraints(False, None), names, begins, ends)
        return Issued(signed.public_bytes(Encoding.PEM), key_pem(key))

    def certificates(self, issued: Issued | None = None, *, asks_clients: bool = False) -> Certificates:
        """What a server shows: without `issued` a new one for this machine."""
        issued = issued or self.issue(*LOOPBACK)
        client_ca = self.pem if asks_clients else None
        return Certificates(issued.certificate, issued.key, client_ca, datetime.now(UTC) + DAY)

    def write(self, directory: Path) -> Path:
        """Its own certificate as a file."""
        path = directory / "ca.pem"
        replace(path, self.pem)
        return path

    def client(self, directory: Path, *names: str) -> Tls:
        """How to reach a server of this authority: with a certificate for `names`, or without any."""
        ca_file = self.write(directory)
        if not names:
            return Tls(ca_file)
        return Tls(ca_file, *self.issue(*names).write(directory, "client"))

    def _signed(
        self,
        subject: x509.Name,
        key: CertificateIssuerPrivateKeyTypes,
        constraints: x509.BasicConstraints,
        names: tuple[str, ...],
        begins: timedelta,
        ends: timedelta,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(constraints, critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(map(_general_name, names)), critical=False)
        return builder.sign(self._key, SHA256())


@cache
def authority() -> Authority:
    """One for all tests that do not care which."""
    return Authority()


def key_pem(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def replace(path: Path, content: bytes) -> None:
    """As files should be replaced: written beside and renamed."""
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    beside.rename(path)


def _general_name(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
