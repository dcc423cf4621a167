"""Tokens that only this gateway can have made: for session cookies and dashboard links.

A keyed digest over JSON, not JWT: one algorithm, nothing negotiable, no dependency. The payload is
signed, not hidden.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping

MAX_TOKEN = 8192
"""Characters; nothing longer is looked at."""


class Signer:
    """Signs and verifies with HMAC-SHA256; one key a purpose, so no token serves another purpose."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 16:
            raise ValueError("a signing secret needs at least 16 bytes")
        self._secret = secret

    def sign(self, purpose: str, payload: Mapping[str, object], expires: float) -> str:
        """A token of ``[A-Za-z0-9_.-]``, fit for URLs and cookies, valid until ``expires``
        (seconds since the epoch)."""
        text = json.dumps([expires, dict(payload)], separators=(",", ":"), allow_nan=False)
        body = _encode(text.encode())
        return f"{body}.{_encode(self._digest(purpose, body))}"

    def verify(self, purpose: str, token: str, now: float) -> Mapping[str, object] | None:
        """The payload of a token of this purpose that has not expired; None for anything else."""
        body, _, signature = token.partition(".")
        if len(token) > MAX_TOKEN or not token.isascii():
            return None
        if not hmac.compare_digest(_encode(self._digest(purpose, body)), signature):
            return None
        try:
            expires, payload = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (ValueError, TypeError, binascii.Error):
            return None
        return payload if now < expires else None

    def fingerprint(self, purpose: str, text: str) -> str:
        """A short text that changes with ``text`` and tells nothing about it."""
        return _encode(self._digest(f"fingerprint {purpose}", text)[:16])

    def _digest(self, purpose: str, body: str) -> bytes:
        key = hmac.digest(self._secret, purpose.encode(), hashlib.sha256)
        return hmac.digest(key, body.encode("utf-8", "surrogateescape"), hashlib.sha256)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
