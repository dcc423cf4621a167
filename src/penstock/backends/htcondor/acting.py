"""As whom HTCondor's commands are run for the owner of a batch.

Jobs shall be the user's and not the gateway's. As root one becomes the user; other gateways are
trusted by the schedd to name the owner, or sign a token for the user. A command is a process of its
own: HTCondor's libraries keep the first user's session for the second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from penstock.backends.command import Commands
from penstock.backends.htcondor.replies import said
from penstock.backends.owner import Identity, identify, user_name
from penstock.model.errors import Rejected, Unavailable

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Actor:
    """How to run commands for one owner. ``named``: the description must say whose the jobs are."""

    identity: Identity | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    named: bool = False


@dataclass(frozen=True, slots=True)
class Acting:
    """A way to act for users, see ``HTCondorBackendSettings.act_by``.

    Besides those, ``own``: all jobs are those of this process's user, whoever HTCondor takes that
    for (a notebook's account may have another name than its token). ``domain``, ``key`` and
    ``lifetime`` (seconds) are those of signed tokens.
    """

    way: str = "itself"
    domain: str = ""
    key: str = "POOL"
    lifetime: float = 86400.0


class Actors:
    """Who acts for whom. ``directory``: for tokens, a directory an owner (0700, files 0600)."""

    def __init__(
        self, acting: Acting, commands: Commands, directory: Path, *, allow_root: bool
    ) -> None:
        self._acting = acting
        self._commands = commands
        self._directory = directory
        self._allow_root = allow_root
        self._signing: dict[str, asyncio.Lock] = {}

    @property
    def way(self) -> str:
        """See ``Acting``."""
        return self._acting.way

    @property
    def own(self) -> bool:
        """Whether everything is this process's user's."""
        return self._acting.way == "own"

    def apart(self, directory: Path) -> Actors:
        """The same with tokens of its own."""
        return Actors(self._acting, self._commands, directory, allow_root=self._allow_root)

    async def of(self, owner: str) -> Actor:
        """Raises Rejected for a user that cannot be, and Unavailable when no token can be had."""
        if self.own:
            return Actor()
        if not _NAME.fullmatch(owner):
            raise Rejected(f"there is no user {owner[:64]!a} in HTCondor")
        if self._acting.way == "itself":
            return Actor(await self.identity(owner))
        if owner == "root":
            raise Rejected("jobs must not run as root: log in as another user")
        if self._acting.way == "behalf":
            return Actor(named=True)
        return Actor(environ=await self._token(owner))

    @property
    def me(self) -> str:
        """The gateway's own account."""
        return user_name(os.geteuid())

    async def looker(self) -> Actor:
        """For questions about everybody's jobs. Raises Unavailable when no token can be had."""
        if self._acting.way == "token":
            return Actor(environ=await self._token(self.me))
        return Actor()

    async def identity(self, owner: str) -> Identity:
        """The Unix user of an owner; in a thread: a directory server may be slow."""
        return await asyncio.to_thread(identify, owner, allow_root=self._allow_root)

    async def _token(self, owner: str) -> Mapping[str, str]:
        place = self._directory / owner
        async with self._signing.setdefault(owner, asyncio.Lock()):
            if not self._good(place / "token"):
                await self._sign(owner, place)
        # Nothing but this token: whoever can read the pool's key would else become its own user.
        places = ("TOKEN_DIRECTORY", "TOKEN_SYSTEM_DIRECTORY", "PASSWORD_DIRECTORY")
        return {
            **{f"_CONDOR_SEC_{name}": str(place) for name in places},
            "_CONDOR_SEC_TOKEN_POOL_SIGNING_KEY_FILE": str(place / "none"),
            "_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
        }

    def _good(self, token: Path) -> bool:
        """Less than half of its life is over."""
        try:
            return 0 <= time.time() - token.stat().st_mtime < self._acting.lifetime / 2
        except OSError:
            return False

    async def _sign(self, owner: str, place: Path) -> None:
        name = f"{owner}@{self._acting.domain}" if self._acting.domain else owner
        words = ["-identity", name, "-key", self._acting.key]
        words += ["-lifetime", str(round(self._acting.lifetime))]
        done = await self._commands.run("condor_token_create", *words)
        if done.code != 0 or not done.output.strip():
            raise Unavailable(f"no HTCondor token can be made for {owner}: {said(done.errors)}")
        try:
            _keep(place, done.output)
        except OSError as error:
            raise Unavailable(f"the token of {owner} cannot be kept: {error.strerror}") from error

    def forget(self, owner: str) -> None:
        """Sign anew next time: the schedd did not like this one."""
        with contextlib.suppress(OSError):
            (self._directory / owner / "token").unlink()


def _keep(place: Path, token: bytes) -> None:
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = place / ".token.new"
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(token)
    draft.replace(place / "token")
