"""Which files serve for TLS, and what is said of those that do not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from agent_service.errors import ConfigError
from agent_service.tls.certificate_files import CertificateFiles
from tests.fakes.authority import DAY, Authority, authority, key_pem

FILES = CertificateFiles(Path("tls.crt"), Path("tls.key"))
MUTUAL = CertificateFiles(Path("tls.crt"), Path("tls.key"), Path("ca.crt"))
GOOD = authority().issue("localhost")


def told(*contents: bytes) -> list[str]:
    files = MUTUAL if len(contents) == 3 else FILES
    with pytest.raises(ConfigError) as refused:
        files.parse(contents)
    return list(refused.value.problems)


def instant(ends: timedelta) -> str:
    """What a problem says of a time that is so far from now, without its seconds."""
    return (datetime.now(UTC) + ends).strftime("%Y-%m-%dT%H:%M")


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
    ],
)
def test_a_certificate_with_its_key_is_taken(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    issued = authority().issue("localhost", key=key, ends=3 * DAY)
    certificates = FILES.parse([issued.certificate, issued.key])
    assert (certificates.chain, certificates.key, certificates.client_ca) == (issued.certificate, issued.key, None)
    assert timedelta(days=2) < certificates.not_after - datetime.now(UTC) <= timedelta(days=3)


def test_a_chain_ends_when_its_first_certificate_does() -> None:
    issued = authority().issue("localhost", ends=3 * DAY)
    certificates = FILES.parse([issued.certificate + authority().pem, issued.key])
    assert certificates.not_after - datetime.now(UTC) <= timedelta(days=1)


def test_the_key_is_never_shown() -> None:
    assert "PRIVATE" not in repr(FILES.parse([GOOD.certificate, GOOD.key]))


def test_a_bundle_of_authorities_may_hold_old_ones() -> None:
    old = Authority("old", begins=-3 * DAY, ends=-2 * DAY)
    assert MUTUAL.parse([GOOD.certificate, GOOD.key, old.pem + authority().pem]).client_ca is not None
    assert told(GOOD.certificate, GOOD.key, old.pem) == ["ca.crt: holds no certificate that is valid now"]


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\xff\x00", b"hello", GOOD.key[:100], GOOD.certificate[:-60]],
    ids=["empty", "bytes", "text", "half a key", "half a certificate"],
)
def test_garbage_is_told_of_every_file_at_once(garbage: bytes) -> None:
    assert told(garbage, garbage, garbage) == [
        "tls.crt: holds no certificate in PEM form",
        "tls.key: holds no private key in PEM form",
        "ca.crt: holds no certificate in PEM form",
    ]


def test_a_certificate_out_of_its_time_is_told_with_that_time() -> None:
    expired = authority().issue("localhost", begins=-3 * DAY, ends=-2 * DAY)
    (problem,) = told(expired.certificate, expired.key)
    assert problem.startswith(f"tls.crt: expired at {instant(-2 * DAY)}")
    assert problem.endswith("Z")
    early = authority().issue("localhost", begins=2 * DAY, ends=3 * DAY)
    (problem,) = told(early.certificate, early.key)
    assert problem.startswith(f"tls.crt: is not valid before {instant(2 * DAY)}")
    (problem,) = told(GOOD.certificate + expired.certificate, GOOD.key)
    assert problem.startswith(f"tls.crt: certificate 2 of 2 expired at {instant(-2 * DAY)}")


def test_a_key_of_another_certificate_is_told() -> None:
    other = authority().issue("localhost")
    assert told(GOOD.certificate, other.key) == ["tls.key: is not the key of the first certificate of tls.crt"]
    # As where the chain was written in the wrong order.
    assert told(authority().pem + GOOD.certificate, GOOD.key) == [
        "tls.key: is not the key of the first certificate of tls.crt"
    ]


def test_a_key_with_a_password_is_told() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (problem,) = told(authority().issue("localhost", key=key).certificate, pem)
    assert problem == "tls.key: has a password; remove it, and make the file readable only for the service"


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
        rsa.generate_private_key(65537, 1024),
    ],
)
def test_a_key_that_grpc_cannot_use_or_nobody_should_is_told(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
) -> None:
    (problem,) = told(GOOD.certificate, key_pem(key))
    assert problem == "tls.key: must be an RSA key of at least 2048 bits, or one of the curves P-256 and P-384"
