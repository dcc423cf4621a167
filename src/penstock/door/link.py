"""The server's end of the control socket: takes accepted sockets, gives routes.

It reconnects for ever and sends its whole route table after each connect, so a door that was
restarted, replaced or started later than the server needs no special case.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping

from penstock.door import protocol
from penstock.door.config import Address
from penstock.door.routes import check_route

_log = logging.getLogger(__name__)

_RETRY = 0.05
_RETRY_MOST = 0.5
"""Seconds between attempts to connect: short, because clients wait in a door that has come back."""


class DoorLink:
    """One server's link to its door. Use it from one event loop only.

    ``on_socket(sock, tls)`` is called for each connection that is the server's: an accepted,
    non-blocking TCP socket whose first bytes are unread, and whether those bytes are TLS. It owns
    the socket from then on.
    """

    def __init__(self, path: str, on_socket: Callable[[socket.socket, bool], None]) -> None:
        self._path = path
        self._on_socket = on_socket
        self._routes: dict[str, Address] = {}
        self._sock: socket.socket | None = None
        self._unsent: deque[bytes] = deque()
        self._ended: asyncio.Future[None] | None = None
        self.connected = asyncio.Event()
        """Set while the link stands."""

    def set_route(self, name: str, address: Address) -> None:
        """Send TLS connections for ``daskgateway-<name>`` to (IP address, port) from now on.

        Raises ValueError with a sentence for a name or address that the door would not take.
        """
        name, address = check_route(name, address)
        self._routes[name] = address
        self._send({"op": "put", "name": name, "address": address})

    def drop_route(self, name: str) -> None:
        """Refuse new connections for this cluster; open ones live on."""
        if self._routes.pop(name, None) is not None:
            self._send({"op": "drop", "name": name})

    async def run(self) -> None:
        """Stay linked until cancelled; then no further socket is taken."""
        wait = _RETRY
        while True:
            try:
                await self._serve()
                wait = _RETRY
            except OSError as error:
                _log.debug("no door at %s: %s", self._path, error)
                wait = min(_RETRY_MOST, wait * 1.5)
            await asyncio.sleep(wait)

    async def _serve(self) -> None:
        """One connection from beginning to end; raises OSError when there is no door."""
        loop = asyncio.get_running_loop()
        sock = connect(self._path)
        self._ended = loop.create_future()
        self._sock = sock
        self._unsent.clear()
        try:
            self._send_table()
            self._send({"op": "serve"})
            loop.add_reader(sock.fileno(), self._receive)
            self.connected.set()
            await self._ended
        finally:
            self.connected.clear()
            self._sock = None
            loop.remove_reader(sock.fileno())
            loop.remove_writer(sock.fileno())
            sock.close()

    def _send_table(self) -> None:
        routes = list(self._routes.items())
        step = protocol.TABLE_PART
        for start in range(0, max(1, len(routes)), step):
            part = dict(routes[start : start + step])
            self._send({"op": "table", "routes": part, "more": start + step < len(routes)})

    def _send(self, message: Mapping[str, object]) -> None:
        if self._sock is not None:
            self._unsent.append(protocol.encode(message))
            if len(self._unsent) == 1:
                self._flush()

    def _flush(self) -> None:
        if self._sock is None:
            return
        loop = asyncio.get_running_loop()
        try:
            while self._unsent:
                self._sock.send(self._unsent[0])
                self._unsent.popleft()
        except BlockingIOError:
            loop.add_writer(self._sock.fileno(), self._flush)
            return
        except OSError:
            self._end()
        loop.remove_writer(self._sock.fileno())

    def _end(self) -> None:
        self._unsent.clear()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _receive(self) -> None:
        """Take what the door sends; bounded, so that the server's other work gets its turn."""
        for _ in range(32):
            if self._sock is None:
                return
            try:
                data, rights, flags, _ = socket.recv_fds(
                    self._sock, protocol.MAX_MESSAGE, 1, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                data, rights, flags = b"", [], 0
            if not data:
                self._end()
                return
            self._on_message(protocol.decode(data), rights, bool(flags & socket.MSG_CTRUNC))

    def _on_message(self, message: dict[str, object], rights: list[int], lost: bool) -> None:
        if message["op"] != "socket":
            return
        if lost or not rights:
            _log.error("no file descriptors left: a connection waits in the door")
            self._send({"op": "missed", "id": message["id"]})
            return
        sock = socket.socket(fileno=rights[0])
        sock.setblocking(False)
        self._send({"op": "took", "id": message["id"]})
        try:
            self._on_socket(sock, bool(message["tls"]))
        except Exception:  # one connection's trouble must not end the link
            _log.exception("a connection from the door could not be served")
            sock.close()


def connect(path: str) -> socket.socket:
    """A non-blocking connection to the door's control socket; raises OSError when none answers,
    or when another user's process is at it (who could give us false sockets and read our routes)."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        sock.connect(path)
        _, uid, _ = protocol.peer(sock)
        if uid not in (0, os.geteuid()):
            raise PermissionError(f"the door at {path} belongs to user {uid}")
    except BaseException:
        sock.close()
        raise
    return sock


async def ask(path: str, message: Mapping[str, object], seconds: float = 5.0) -> dict[str, object]:
    """Send one message and return the answer (empty when the door ends instead of answering).

    Raises OSError when no door answers, TimeoutError when it is too slow.
    """
    loop = asyncio.get_running_loop()
    with contextlib.closing(connect(path)) as sock:
        await loop.sock_sendall(sock, protocol.encode(message))
        data = await asyncio.wait_for(loop.sock_recv(sock, protocol.MAX_MESSAGE), seconds)
    return protocol.decode(data) if data else {}
