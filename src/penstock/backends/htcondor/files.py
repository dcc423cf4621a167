"""Where jobs' script and output lie on the submit side, and with whose rights they are touched.

Without spooling, the schedd's machine is ours, and its shadow reads and writes there as the user:
the directory of a batch is the user's (0700), and so is every access of ours: whatever links a user
puts there lead only to what is theirs. With spooling, condor_submit sends the script from there, and
condor_transfer_data brings the output; where these do not run as the user, it is a directory of the
gateway's own.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from penstock.backends.command import Commands
from penstock.backends.owner import Identity
from penstock.model.errors import Absent, Unavailable

FILE_LIMIT = 10.0
"""Seconds for a file, which may lie on a file server."""

_WRITE = 'umask 077; mkdir -p -- "$1" && cat >"$1/$2" && chmod 700 -- "$1/$2"'


class Files:
    """Files below ``directory``. ``identity`` is None where they are the gateway's own."""

    def __init__(self, directory: Path, *, timeout: float) -> None:
        self.directory = directory
        # Users' file systems may hang, which must not keep anybody from HTCondor.
        self._commands = Commands("the system", timeout=min(timeout, FILE_LIMIT))

    def place(self, owner: str, tag: str) -> str:
        """The directory of a batch."""
        return str(self.directory / owner / tag)

    async def write(
        self, owner: str, tag: str, name: str, content: bytes, identity: Identity | None
    ) -> None:
        """Write a batch's script (0700). Raises Absent: it may be this user's quota alone."""
        try:
            await asyncio.to_thread(self._room, owner, identity)
        except OSError as error:
            raise Absent(f"{self.directory}/{owner} cannot be made: {error.strerror}") from error
        place = self.place(owner, tag)
        done = await self._commands.run(
            "sh", "-c", _WRITE, "sh", place, name, identity=identity, data=content
        )
        if done.code != 0:
            raise Absent(f"{place}/{name} cannot be written: {done.errors.strip()[:500]}")

    def _room(self, owner: str, identity: Identity | None) -> None:
        """The user's own directory in ours, through which users must be able to pass."""
        switch = identity is not None and identity.switch
        if not self.directory.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            self.directory.chmod(0o711 if switch else 0o700)
        room = self.directory / owner
        try:
            room.mkdir(mode=0o700)
        except FileExistsError:
            return
        if identity is not None and switch:
            os.chown(room, identity.uid, identity.gid, follow_symlinks=False)

    async def tail(self, path: str, count: int, identity: Identity | None) -> bytes | None:
        """The last bytes of a file, None when it cannot be read."""
        done = await self._commands.run("tail", "-c", str(count), "--", path, identity=identity)
        return done.output if done.code == 0 else None

    async def remove(self, owner: str, tag: str, identity: Identity | None) -> None:
        """Delete what a batch has. Raises Unavailable."""
        place = self.place(owner, tag)
        done = await self._commands.run("rm", "-rf", "--", place, identity=identity)
        if done.code != 0:
            raise Unavailable(f"{place} cannot be deleted: {done.errors.strip()[:500]}")
