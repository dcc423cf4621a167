"""Tokens for slurmrestd: whose, from where, and for how long. They are never shown."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import stat
import time
from pathlib import Path
from typing import Protocol

from penstock.backends.command import Commands
from penstock.backends.slurm import parse
from penstock.model.errors import Absent, Unavailable

EARLY = 30.0
"""Seconds before its end from which a token is not used any more: a request takes a while."""

_TOKEN = re.compile(r"(?:SLURM_JWT=)?([\w-]+\.[\w-]+\.[\w-]+)\s*")
_MOST = 10_000


class Tokens(Protocol):
    """Where tokens come from."""

    async def of(self, owner: str) -> str:
        """A token to act for a user with. Raises Unavailable, or Absent where only this user has none."""


class TokenFile:
    """One token that may act for everybody (SlurmUser's), kept in a file by whoever renews it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def of(self, owner: str) -> str:
        return await asyncio.to_thread(self._read)

    def _read(self) -> str:
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            with os.fdopen(handle) as file:
                if os.fstat(handle).st_mode & (stat.S_IRWXO | stat.S_IWGRP):
                    raise Unavailable(
                        f"the token in {self._path} is not used, as others can read or replace it: "
                        f"chmod 600 {self._path}"
                    )
                text = file.read(100_000)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise Unavailable(f"the token in {self._path} cannot be read: {reason}") from None
        return _valid(text, f"in {self._path}")


class TokenCommand:
    """A token for each user, printed by a command; kept until shortly before its end."""

    def __init__(self, words: tuple[str, ...], *, timeout: float) -> None:
        self._words = words
        self._commands = Commands("the command for tokens", timeout=timeout)
        self._kept: dict[str, str] = {}

    async def of(self, owner: str) -> str:
        kept = self._kept.get(owner)
        if kept is not None and _expires(kept) > time.time() + EARLY:
            return kept
        path, *rest = (word.replace("{user}", owner) for word in self._words)
        done = await self._commands.run(path, *rest)
        if done.code != 0:
            raise Absent(f"{path} gave no token for {owner}: {parse.said(done.errors)}")
        try:
            token = _valid(done.output.decode(errors="replace"), f"from {path} for {owner}")
        except Unavailable as error:
            raise Absent(str(error)) from None
        if len(self._kept) >= _MOST:
            self._kept.clear()
        self._kept[owner] = token
        return token


def _valid(text: str, where: str) -> str:
    match = _TOKEN.fullmatch(text.strip())
    if match is None:
        raise Unavailable(f"what is {where} is no token of Slurm (see scontrol token)")
    if _expires(match[1]) < time.time():
        raise Unavailable(f"the token {where} is over: it needs to be renewed")
    return match[1]


def _expires(token: str) -> float:
    """When a JWT ends (``exp``, RFC 7519), in epoch seconds; never, if it does not say so.

    Not whether it is good, which is Slurm's to say: only so that an old one is told as such.
    """
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return float(claims["exp"])
    except (ValueError, KeyError, TypeError, IndexError):
        return float("inf")
