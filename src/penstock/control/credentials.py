"""The secrets of one cluster: a token for its jobs, and one certificate that is all of its PKI.

Scheduler, workers and clients hold the same key pair and trust nothing but its certificate, so
whoever holds it is in and nobody else is. The ``dask_gateway`` client loads the certificate both as
its CA and as its own (``GatewaySecurity`` in its ``client.py``) and does not check host names.

EC P-256 and not RSA: a key takes 0.1 ms instead of 50 ms, and thirty users start at once.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SNI_PREFIX = "daskgateway-"
"""What the client puts before a cluster's name in its TLS hello."""

_VALID = timedelta(days=3650)
_SKEW = timedelta(days=1)
"""How far behind a node's clock may be."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """``token`` for HTTP; ``cert`` and ``key`` as PEM."""

    token: str
    cert: str
    key: str

    def __repr__(self) -> str:
        return "Credentials<...>"


def new_credentials(name: str) -> Credentials:
    """Fresh secrets for the cluster of this name."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    cert = _self_signed(name, key).public_bytes(serialization.Encoding.PEM)
    return Credentials(secrets.token_hex(32), cert.decode(), pem.decode())


def _self_signed(name: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """A certificate that is its own CA, with all that ``VERIFY_X509_STRICT`` asks for.

    Python 3.13 made the strict flag a default; a certificate without key identifiers, basic
    constraints or key usage is refused there.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dask-internal")])
    now = datetime.now(timezone.utc)
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(x509.SubjectAlternativeName(_names(name)), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
    )
    return builder.sign(key, hashes.SHA256())


def _names(name: str) -> list[x509.GeneralName]:
    return [x509.DNSName(SNI_PREFIX + name), x509.DNSName("dask-internal")]


def _key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
