"""Acting for users by one narrow rule of sudo, for a server that is not root.

The rule lets the server's account start one file, ``helper.py`` as root installed it, as the users
of a group, with no arguments. What that file does and refuses stands in it. One chain of processes a
submission or cancellation, as ``sbatch`` itself would be.

The chain cannot be killed from here, as sudo is root's: the helper ends itself, and what it started.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.backends.command import Commands, Done
from penstock.backends.owner import account
from penstock.backends.slurm import parse
from penstock.backends.slurm.acting import FILE_LIMIT, Output, Said
from penstock.model.errors import BackendError, Rejected, Unavailable

VERSION = 2
"""Of the helper's requests and answers; equal to its own."""

GRACE = 3.0
"""Seconds beyond the helper's own time in which its answer may arrive."""

_ADVICE = "docs/admin/slurm-users.md says how the gateway's rule for sudo is made"
_NOT_FOR_THIS_USER = re.compile(r"is not allowed to (?:execute|run)|a password is required")


@dataclass(frozen=True, slots=True)
class Answer(Said):
    """What the helper said of a command."""

    output: str = ""


class Sudo:
    """See ``penstock.backends.slurm.acting.Acting``. ``helper``: where root installed it.

    ``timeout``: seconds that one of Slurm's commands may take.
    """

    def __init__(self, helper: Path, *, timeout: float) -> None:
        self._helper = helper
        self.rehearses = True
        self._slurm = Commands("sudo", timeout=timeout + GRACE)
        # Users' file systems may hang, which must not keep anybody from Slurm.
        self._files = Commands("sudo", timeout=min(timeout, FILE_LIMIT) + GRACE)

    async def submit(self, owner: str, words: Sequence[str], script: bytes) -> None:
        answer = await self._ask(owner, {"verb": "submit", "words": list(words)}, script)
        failure = parse.submit_error(answer.code, answer.errors)
        if failure is not None:
            raise failure

    async def cancel(
        self, owner: str, arrays: Mapping[str, Collection[int]], signal: int = 0
    ) -> None:
        tasks = {base: parse.ranges(indices) for base, indices in arrays.items()}
        answer = await self._ask(owner, {"verb": "cancel", "arrays": tasks, "signal": signal})
        failure = parse.cancel_error(answer.code, answer.errors)
        if failure is not None:
            raise failure

    async def tail(self, owner: str, output: Output, index: int, limit: int) -> str:
        request = {"verb": "tail", **_place(output), "index": index, "limit": limit}
        answer = await self._ask(owner, request, files=True)
        return answer.output.encode("latin-1", "replace").decode(errors="replace")

    async def remove(self, owner: str, output: Output) -> None:
        answer = await self._ask(owner, {"verb": "remove", **_place(output)}, files=True)
        if answer.code != 0:
            raise Unavailable(f"{output.place} cannot be deleted: {parse.said(answer.errors)}")

    async def rehearse(self, owner: str, words: Sequence[str], script: bytes) -> Said:
        return await self._ask(owner, {"verb": "submit", "words": list(words)}, script)

    async def check(self, owner: str) -> str:
        try:
            answer = await self._ask(owner, {"verb": "check"})
        except BackendError as error:
            return str(error)
        return "" if answer.code == 0 else f"sbatch does not work: {parse.said(answer.errors)}"

    async def aclose(self) -> None:
        """Nothing is held between two commands."""

    async def _ask(
        self, owner: str, request: Mapping[str, Any], data: bytes = b"", *, files: bool = False
    ) -> Answer:
        # By the directory's own spelling: sudo takes "#0" for a user as well.
        name = (await asyncio.to_thread(account, owner)).pw_name
        commands = self._files if files else self._slurm
        seconds = max(1, round(commands.timeout - GRACE))
        line = json.dumps({**request, "version": VERSION, "seconds": seconds}).encode()
        words = ("-n", "-u", name, "--", str(self._helper))
        done = await commands.run("sudo", *words, data=line + b"\n" + data)
        return read_answer(done, name)


def _place(output: Output) -> dict[str, str]:
    return {"logs": output.directory, "tag": output.batch.tag}


def read_answer(done: Done, owner: str) -> Answer:
    """What came back. Raises Rejected or Unavailable when Slurm was not even asked."""
    if done.code is None:
        return Answer(None)
    try:
        told = json.loads(done.output)
        version, refused = told["version"], told.get("refused")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _sudo_error(done, owner) from None
    if refused is not None:
        raise Rejected(f"the gateway's helper for Slurm refused: {refused}")
    if version != VERSION:
        raise Unavailable(f"the helper for Slurm is of version {version}, not {VERSION}; {_ADVICE}")
    if told.get("unavailable"):
        raise Unavailable(f"the helper for Slurm cannot: {told['unavailable']}")
    return Answer(told.get("code"), told.get("errors") or "", told.get("output") or "")


def _sudo_error(done: Done, owner: str) -> BackendError:
    """The helper never spoke: sudo's words, and whether they are about this user alone."""
    words = parse.said(done.errors).removeprefix("sudo: ")
    if _NOT_FOR_THIS_USER.search(done.errors):
        return Rejected(
            f"the gateway may not start jobs as user {owner} (sudo: {words}); ask its admins to "
            f"allow it: {_ADVICE}"
        )
    return Unavailable(f"sudo did not start the helper for Slurm: {words}; {_ADVICE}")
