"""As whom Slurm is told what to do: the one place that knows how to act for a user.

Looking is nobody's privilege; submitting, cancelling and reading output are done as the jobs'
owner, so that Slurm's own limits, accounts and permissions hold as if they had typed it. Three ways:
``Itself`` here (root, or the only user there is), ``sudo.Sudo`` (one narrow rule) and ``rest.Rest``
(slurmrestd, with tokens). docs/admin/slurm-users.md tells them apart.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from penstock.backends.command import Commands
from penstock.backends.owner import Identity, identify
from penstock.backends.slurm import parse
from penstock.model.errors import Rejected, Unavailable
from penstock.model.ids import BatchId

FILE_LIMIT = 10.0
"""Seconds for reading or deleting output, which may lie on a file server."""

_ARRAYS = 200
"""Arrays in one ``scancel``."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where the jobs of a batch write: ``directory``/tag/index.log."""

    directory: str
    batch: BatchId

    @property
    def place(self) -> str:
        """The directory of the batch."""
        return f"{self.directory}/{self.batch.tag}"


@dataclass(frozen=True, slots=True)
class Said:
    """The end of one of Slurm's commands: its code, None when its time was over, and its words."""

    code: int | None
    errors: str = ""


class Acting(Protocol):
    """What is done as a user. ``owner`` is a Unix user name.

    Each raises Rejected when it may not be done for this user at all. ``rehearses``: whether
    ``rehearse`` can be; the server's own account can always ask for itself.
    """

    rehearses: bool

    async def submit(self, owner: str, words: Sequence[str], script: bytes) -> None:
        """Submit one array: ``words`` are long options as ``sbatch`` takes them.

        Raises Rejected, Unavailable, Full, Absent or Uncertain.
        """

    async def cancel(
        self, owner: str, arrays: Mapping[str, Collection[int]], signal: int = 0
    ) -> None:
        """Cancel tasks, by the job id of their array; those that are over are no failure.

        ``signal``: send this to the tasks' scripts instead. Raises Unavailable.
        """

    async def tail(self, owner: str, output: Output, index: int, limit: int) -> str:
        """The last ``limit`` bytes of a job's output; empty when it cannot be seen from here."""

    async def remove(self, owner: str, output: Output) -> None:
        """Delete the output of a batch where it can be seen from here. Raises Unavailable."""

    async def rehearse(self, owner: str, words: Sequence[str], script: bytes) -> Said:
        """What ``sbatch --test-only`` says of such a job of this user's, which is not submitted.

        Raises Rejected or Unavailable.
        """

    async def check(self, owner: str) -> str:
        """Whether jobs of this user can be submitted: why not and what to do, or nothing."""

    async def aclose(self) -> None:
        """Let go of connections."""


def task_words(arrays: Mapping[str, Collection[int]]) -> list[str]:
    """Tasks as ``scancel`` takes them; an own id of a task means nothing once it runs."""
    return [f"{base}_[{parse.ranges(tasks)}]" for base, tasks in arrays.items()]


class Itself:
    """As root with the user's uid, gid and groups; otherwise only for the server's own account."""

    def __init__(self, commands: Commands, *, allow_root: bool) -> None:
        self._commands = commands
        # Users' file systems may hang, which must not keep anybody from Slurm.
        self._files = Commands("the system", timeout=min(commands.timeout, FILE_LIMIT))
        self._allow_root = allow_root
        self.rehearses = os.geteuid() == 0

    async def submit(self, owner: str, words: Sequence[str], script: bytes) -> None:
        identity = await self._identity(owner)
        done = await self._commands.run(
            "sbatch", *words, identity=identity, data=script, hopeless=parse.WAITS
        )
        failure = parse.submit_error(done.code, done.errors)
        if failure is not None:
            raise failure

    async def cancel(
        self, owner: str, arrays: Mapping[str, Collection[int]], signal: int = 0
    ) -> None:
        identity = await self._identity(owner)
        options = ["--batch", f"--signal={signal}"] if signal else []
        words = task_words(arrays)
        for at in range(0, len(words), _ARRAYS):
            part = words[at : at + _ARRAYS]
            done = await self._commands.run("scancel", *options, *part, identity=identity)
            failure = parse.cancel_error(done.code, done.errors)
            if failure is not None:
                raise failure

    async def tail(self, owner: str, output: Output, index: int, limit: int) -> str:
        identity = await self._identity(owner)
        path = f"{output.place}/{index}.log"
        done = await self._files.run("tail", "-c", str(limit), "--", path, identity=identity)
        return done.output.decode(errors="replace")

    async def remove(self, owner: str, output: Output) -> None:
        # Whatever links users put there lead only to what is theirs.
        identity = await self._identity(owner)
        done = await self._files.run("rm", "-rf", "--", output.place, identity=identity)
        if done.code != 0:
            raise Unavailable(f"{output.place} cannot be deleted: {parse.said(done.errors)}")

    async def rehearse(self, owner: str, words: Sequence[str], script: bytes) -> Said:
        identity = await asyncio.to_thread(identify, owner, allow_root=True)
        done = await self._commands.run("sbatch", *words, identity=identity, data=script)
        return Said(done.code, done.errors)

    async def check(self, owner: str) -> str:
        try:
            await self._identity(owner)
        except Rejected as error:
            return str(error)
        return ""

    async def aclose(self) -> None:
        """Nothing is held between two commands."""

    async def _identity(self, owner: str) -> Identity:
        """In a thread: a directory server may be slow."""
        return await asyncio.to_thread(
            identify,
            owner,
            allow_root=self._allow_root,
            otherwise=", or act by sudo or slurmrestd (the backend's act_by)",
        )
