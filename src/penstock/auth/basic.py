"""HTTP Basic authentication, which the client's ``BasicAuth`` and every browser speak (RFC 7617).

Checking a good password hash takes a quarter of a second on purpose. Results are therefore kept
for half a day under a keyed digest, never the password, and checks run in two threads at most.
What is kept also gets past the throttle: whoever guesses passwords of others, from the machine
that they all work on, must not lock them out.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from penstock.auth.base import PEER, User, check_user_name
from penstock.auth.passwords import Passwords
from penstock.auth.throttle import Throttle
from penstock.model.errors import Unauthenticated

KEEP = 12 * 3600.0
"""Seconds for which a correct password is not computed again."""

MAX_PASSWORD = 4096

_MOST = 10_000


class BasicAuthenticator:
    """Names and passwords by HTTP Basic; guessing is slowed by name and address."""

    challenge = 'Basic realm="Penstock", charset="UTF-8"'

    def __init__(
        self, passwords: Passwords, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._passwords = passwords
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._kept: dict[bytes, float] = {}
        self._by_name = Throttle(free=5)
        self._by_address = Throttle(free=50)
        self._threads = asyncio.Semaphore(2)
        # Its own thread: every request asks, and a slow directory service may hold all others.
        self._reader = ThreadPoolExecutor(1, "penstock-passwords")

    async def authenticate(self, headers: Mapping[str, str]) -> User:
        """See Authenticator."""
        name, password = parse_basic(headers.get("authorization", ""))
        check_user_name(name)
        proof = await self.proof(name)
        digest = self._digest(name, password, proof)
        if self._clock() < self._kept.get(digest, -math.inf):
            return User(name)
        await self._check(name, password, headers.get(PEER, ""))
        if proof:
            if len(self._kept) >= _MOST:
                self._kept.clear()
            self._kept[digest] = self._clock() + KEEP
        return User(name)

    async def proof(self, name: str) -> str:
        """See Authenticator."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, self._passwords.proof, name)

    async def _check(self, name: str, password: str, address: str) -> None:
        async with self._threads:
            # Asked only now: whoever waited here may have failed meanwhile.
            self._refuse_hasty(name, address)
            correct = await asyncio.to_thread(self._passwords.check, name, password)
        now = self._clock()
        if not correct:
            self._by_name.failed((name, address), now)
            self._by_address.failed(address, now)
            raise Unauthenticated(f"The password for user {name!r} is not correct.")
        self._by_name.succeeded((name, address))

    def _refuse_hasty(self, name: str, address: str) -> None:
        now = self._clock()
        wait = max(self._by_name.wait((name, address), now), self._by_address.wait(address, now))
        if wait > 0.0:
            raise Unauthenticated(
                f"Too many failed logins for user {name!r} from {address or 'there'}; "
                f"try again in {math.ceil(wait)} s."
            )

    def _digest(self, name: str, password: str, proof: str) -> bytes:
        data = "\0".join((name, proof, password)).encode("utf-8", "surrogateescape")
        return hmac.digest(self._key, data, hashlib.sha256)


def parse_basic(header: str) -> tuple[str, str]:
    """(name, password) of an ``Authorization: Basic …`` header. Raises Unauthenticated.

    Browsers send UTF-8, ``dask_gateway`` Latin-1: what is no UTF-8 is read as the latter.
    """
    scheme, _, encoded = header.strip().partition(" ")
    if scheme.lower() != "basic":
        raise Unauthenticated("Log in with your user name and password (HTTP Basic).")
    try:
        raw = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise Unauthenticated("The Authorization header is not valid HTTP Basic.") from None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    name, colon, password = text.partition(":")
    if not colon or len(password) > MAX_PASSWORD:
        raise Unauthenticated("The Authorization header is not valid HTTP Basic.")
    return name, password
