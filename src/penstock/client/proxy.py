"""The user's X.509 proxy: where it is, and how long it is good."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def find_proxy(environ: Mapping[str, str] = os.environ) -> Path | None:
    """``X509_USER_PROXY``, else ``/tmp/x509up_u<uid>``, as all grid tools look; None for none."""
    given = environ.get("X509_USER_PROXY")
    if given:
        return Path(given).absolute()
    usual = Path(f"/tmp/x509up_u{os.getuid()}")  # noqa: S108 (where grid tools put it)
    return usual if usual.exists() else None


def expiry(data: bytes) -> float | None:
    """When the first certificate of a proxy ends, in seconds since the epoch; None when this cannot
    be read."""
    try:
        from cryptography import x509

        certificate = x509.load_pem_x509_certificate(data)
    except (ImportError, ValueError):
        return None
    ends = getattr(certificate, "not_valid_after_utc", None)
    if ends is None:  # cryptography before 42
        return None
    return float(ends.timestamp())
