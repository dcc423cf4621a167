"""A datagram socket on which launchers say that something changed; the words do not matter."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from penstock.model.errors import Unavailable


class Changes:
    """Opened by the first who listens. Any number may; each gets a turn for everything since."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._socket: socket.socket | None = None
        self._inode = 0
        self._count = 0
        self._changed = asyncio.Event()
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[None]:
        """Until ``close``. Raises Unavailable when the socket cannot be made."""
        if self._socket is None and not self._closed:
            try:
                self._open()
            except OSError as error:
                path = self._directory / self._name
                raise Unavailable(f"{path} cannot be made: {error.strerror}") from error
        seen = self._count
        while not self._closed:
            if self._count == seen:
                await self._changed.wait()
                continue
            seen = self._count
            yield

    def close(self) -> None:
        """Stop listening, and end every iteration."""
        self._closed = True
        self._wake()
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        path = self._directory / self._name
        with contextlib.suppress(OSError):
            # Another server of this gateway may have taken over the name.
            if path.stat().st_ino == self._inode:
                path.unlink()

    def _open(self) -> None:
        path = self._directory / self._name
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            # Through the descriptor, because the path of a socket has room for 107 bytes only.
            sock.bind(f"/proc/self/fd/{directory}/{self._name}")
            path.chmod(0o600)
        except OSError:
            sock.close()
            raise
        finally:
            os.close(directory)
        self._inode = path.stat().st_ino
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock, self._read)

    def _read(self) -> None:
        if self._socket is None:
            return
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(64):
                pass
        self._wake()

    def _wake(self) -> None:
        self._count += 1
        self._changed.set()
        self._changed = asyncio.Event()
