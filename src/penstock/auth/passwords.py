"""Where passwords are kept: one for everybody, or a file in the format of ``htpasswd -B``.

A file's line is ``name:hash``; hashes are bcrypt (``$2y$``, as ``htpasswd -B`` writes them, ``$2b$``,
``$2a$``) or argon2. The weak kinds (MD5, SHA-1, crypt, plain) are refused by name, not silently.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import threading
from pathlib import Path
from typing import Protocol

import argon2
import bcrypt
import structlog

from penstock.auth.base import check_user_name
from penstock.model.errors import SettingsError, Unauthenticated

log = structlog.get_logger("penstock.auth")

_BCRYPT = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")
_WEAK = (
    ("$apr1$", "MD5 (apr1)"),
    ("$1$", "MD5"),
    ("{SHA}", "SHA-1"),
    ("$5$", "SHA-256 crypt"),
    ("$6$", "SHA-512 crypt"),
    ("$y$", "yescrypt"),
)


class Passwords(Protocol):
    """Names and what proves them. Methods may be called from any thread."""

    def proof(self, name: str) -> str:
        """What stands for the name's password now; a change makes earlier checks void. Empty when
        the name is not known. May read a file."""

    def check(self, name: str, password: str) -> bool:
        """True when the password is the name's. Takes as long for names that are not known."""


class SharedPassword:
    """One password for every name, or for one name only."""

    def __init__(self, password: str, *, only: str | None = None) -> None:
        if not password:
            raise SettingsError("The shared password is empty: anybody could be anybody.")
        self._password = password.encode("utf-8", "surrogateescape")
        self._only = only
        self._proof = hashlib.sha256(self._password).hexdigest()

    def proof(self, name: str) -> str:
        """See Passwords."""
        return self._proof if self._only in (None, name) else ""

    def check(self, name: str, password: str) -> bool:
        """See Passwords."""
        same = hmac.compare_digest(password.encode("utf-8", "surrogateescape"), self._password)
        return same and self._only in (None, name)


class PasswordFile:
    """A file of names and hashes, read again whenever it changes.

    Raises SettingsError when made from a file that cannot be used. If it becomes unreadable later,
    nobody gets in; a bad line costs only its own user the access.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._hashes: dict[str, str] = {}
        problems = self._refresh()
        if problems:
            raise SettingsError("\n".join(problems))

    def proof(self, name: str) -> str:
        """See Passwords. Raises SettingsError when the file cannot be read."""
        for problem in self._refresh():
            log.warning("password file", problem=problem)
        return self._hashes.get(name, "")

    def check(self, name: str, password: str) -> bool:
        """See Passwords."""
        hashes = self._hashes
        known = hashes.get(name)
        # For an unknown name a hash of the file is computed in vain: the time tells nothing.
        decoy = next(iter(hashes.values()), "")
        return verify(known or decoy, password) and known is not None

    def _refresh(self) -> list[str]:
        with self._lock:
            try:
                status = os.stat(self._path)
                stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
                if stamp == self._seen:
                    return []
                text = self._path.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
                raise SettingsError(
                    f"The password file {self._path} cannot be read: {reason}."
                ) from error
            self._seen = stamp
            self._hashes, problems = parse(text)
            return [f"{self._path}, line {problem}" for problem in problems]


def parse(text: str) -> tuple[dict[str, str], list[str]]:
    """(name → hash, problems as ``<line>: <what is wrong>``) of a password file; hashes are never
    quoted."""
    hashes: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, rest = line.partition(":")
        problem = _line_problem(name, colon, rest, hashes)
        if problem:
            problems.append(f"{number}: {problem}")
        else:
            hashes[name] = rest
    return hashes, problems


def verify(hashed: str, password: str) -> bool:
    """True when the password has this bcrypt or argon2 hash. Costly on purpose: use a thread."""
    data = password.encode("utf-8", "surrogateescape")
    if hashed.startswith("$argon2"):
        try:
            return argon2.PasswordHasher().verify(hashed, data)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
    if not hashed or b"\0" in data:
        return False
    # bcrypt looks at 72 bytes; htpasswd and its like cut the rest off, so do we.
    return bcrypt.checkpw(data[:72], hashed.encode())


def _line_problem(name: str, colon: str, rest: str, known: dict[str, str]) -> str:
    if not colon:
        return "is not of the form name:hash"
    try:
        check_user_name(name)
    except Unauthenticated as error:
        return str(error)
    if name in known:
        return f"the name {name!r} stands there twice"
    if _BCRYPT.fullmatch(rest):
        return ""
    if rest.startswith("$argon2"):
        try:
            argon2.extract_parameters(rest)
        except argon2.exceptions.InvalidHashError:
            return f"the argon2 hash of {name!r} is damaged"
        return ""
    kind = next((kind for sign, kind in _WEAK if rest.startswith(sign)), "an unknown kind")
    return (
        f"the hash of {name!r} is {kind}, which is not supported; make it bcrypt "
        f"(htpasswd -B <file> {name}) or argon2"
    )
