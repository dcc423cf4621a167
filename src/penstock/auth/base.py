"""What every way to authenticate has in common, so that basic, JupyterHub, Kerberos, tokens and a
site's own class are interchangeable."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from penstock.model.errors import Unauthenticated

PEER = "x-penstock-peer"
"""The header in which the server tells an authenticator the peer's address; never the client's own."""

MAX_NAME = 128


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who authenticated.

    ``reply`` are headers for the response that this authentication belongs to (Kerberos proves
    the server to the client in ``WWW-Authenticate``); they say nothing about the user.
    """

    name: str
    groups: frozenset[str] = frozenset()
    admin: bool = False
    reply: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


class Authenticator(Protocol):
    """One way to authenticate. Called concurrently; must not block the event loop."""

    challenge: str
    """The ``WWW-Authenticate`` value of a 401, e.g. ``Basic realm="Penstock"``."""

    async def authenticate(self, headers: Mapping[str, str]) -> User:
        """The user who sent a request with these headers (names in lower case; the peer's address
        is in ``x-penstock-peer``). Raises Unauthenticated.

        An authenticator may also have ``async def proof(self, name: str) -> str``: what stands for
        the user's password now. When it changes, logins that began before it are void.
        """


def check_user_name(name: str) -> str:
    """The name, if it can be one; it will stand in logs, paths, headers and accounting.

    Raises Unauthenticated for text that is empty, longer than 128 characters, not normalised
    (NFC), that holds white space, control or invisible characters, ``/`` or ``:``, or starts
    with ``-`` or ``.``.
    """
    problem = _problem(name)
    if problem:
        raise Unauthenticated(f"{name[:40]!a} cannot be a user name: it {problem}.")
    return name


def _problem(name: str) -> str:
    if not name:
        return "is empty"
    if len(name) > MAX_NAME:
        return f"is longer than {MAX_NAME} characters"
    if name[0] in "-.":
        return f"starts with {name[0]!r}"
    for char in name:
        # Categories C* are control, invisible and surrogate characters, Z* white space.
        if char in "/:" or unicodedata.category(char)[0] in "CZ":
            return f"contains {char!a}"
    if not unicodedata.is_normalized("NFC", name):
        return "is not in Unicode's normal form NFC"
    return ""
