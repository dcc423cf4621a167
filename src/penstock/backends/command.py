"""Run a batch system's commands: as whom it should be, with nothing of the server's environment,
never for ever.

Commands, not libraries: libslurm's ABI changes with every release, HTCondor's bindings hold the GIL
while a daemon hangs and keep the first user's session for the second. A command takes 10 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.backends.owner import Identity
from penstock.model.errors import Unavailable

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_AT_ONCE = 16
"""Commands at a time, so that a burst of scaling is not one for slurmctld."""

_DYING = 2.0
"""Seconds that a killed command may take to go: one that waits for a dead file server never does."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended. ``code``: negative for a signal, None when its time was over."""

    code: int | None
    output: bytes
    errors: str


class Commands:
    """The commands of one installation of a batch system.

    ``system``: its name, for errors. ``directory``: where they are, None for the PATH. ``environ``:
    what they get besides PATH and LC_ALL. ``timeout``: seconds that one may take.
    """

    def __init__(
        self,
        system: str,
        directory: Path | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        timeout: float,
    ) -> None:
        self.system = system
        self._path = SYSTEM_PATH if directory is None else f"{directory}:{SYSTEM_PATH}"
        self._environ = {"PATH": self._path, "LC_ALL": "C", **(environ or {})}
        self.timeout = timeout
        self._left: set[asyncio.Future[tuple[bytes, bytes]]] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def find(self, name: str) -> str | None:
        """Where a command is, None when it is not there."""
        return shutil.which(name, path=self._path)

    async def run(
        self,
        name: str,
        *arguments: str,
        identity: Identity | None = None,
        data: bytes = b"",
        environ: Mapping[str, str] | None = None,
        hopeless: str = "",
    ) -> Done:
        """Run one with ``data`` as its input and ``environ`` besides the usual variables.

        ``hopeless``: words on its standard error after which there is no point in waiting for it.
        Raises Unavailable when it cannot be started.
        """
        path = self.find(name)
        if path is None:
            raise Unavailable(
                f"there is no {name} in {self._path}: is {self.system} installed here?"
            )
        async with self._slots:
            try:
                process = await asyncio.create_subprocess_exec(
                    path,
                    *arguments,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env={**self._environ, **(environ or {})},
                    cwd="/",
                    umask=0o022,
                    start_new_session=True,
                    **_switch(identity),
                )
            except OSError as error:
                raise Unavailable(f"{path} cannot be started: {error.strerror}") from error
            return await self._finish(process, data, hopeless.encode())

    async def aclose(self) -> None:
        """Wait a moment for commands that were given up and killed to be gone."""
        if self._left:
            await asyncio.wait(self._left, timeout=_DYING)

    async def _finish(
        self, process: asyncio.subprocess.Process, data: bytes, hopeless: bytes
    ) -> Done:
        talk = asyncio.ensure_future(_talk(process, data, hopeless))
        try:
            await asyncio.wait({talk}, timeout=self.timeout)
            in_time = talk.done()
        finally:
            if not talk.done():  # also when we are cancelled ourselves
                # What sudo started is root's to kill, and has to end by itself.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    process.kill()
                self._left.add(talk)
                talk.add_done_callback(self._left.discard)
        if not in_time:
            await asyncio.wait({talk}, timeout=_DYING)
            if not talk.done():
                return Done(None, b"", "")
        output, errors = talk.result()
        code = process.returncode if in_time else None
        return Done(code, output, errors.decode(errors="replace"))


async def _talk(
    process: asyncio.subprocess.Process, data: bytes, hopeless: bytes
) -> tuple[bytes, bytes]:
    """What ``communicate`` does; a process that says ``hopeless`` is killed."""
    if not hopeless:
        return await process.communicate(data)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    output = asyncio.ensure_future(process.stdout.read())
    errors = b""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()
    while chunk := await process.stderr.read(65536):
        errors += chunk
        if hopeless in errors and process.returncode is None:
            process.kill()
    await process.wait()
    return await output, errors


def _switch(identity: Identity | None) -> Mapping[str, Any]:
    """All of a user: with ``user`` alone the process would keep root's groups."""
    if identity is None or not identity.switch:
        return {}
    return {"user": identity.uid, "group": identity.gid, "extra_groups": list(identity.groups)}
