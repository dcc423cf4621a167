"""One connection from accept to its fate: a scheduler, the server, or a refusal.

Bytes are only peeked at, so whoever gets the socket reads them from the first. The socket is watched
edge-triggered and its low-water mark (SO_RCVLOWAT) is raised to what the parser needs next: neither
a hello in a thousand pieces nor one that never ends makes the door busy.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
from typing import Protocol

from penstock.door import clienthello
from penstock.door.config import Address
from penstock.door.loop import ENDING, HUNG_UP, WRITABLE, Deadlines, Loop
from penstock.door.routes import PREFIX, Routes
from penstock.door.splice import Pipes, Pump

# Alerts of RFC 8446 §6; a fatal alert is one record of type 21 with two bytes.
DECODE_ERROR = 50
INTERNAL_ERROR = 80
UNRECOGNIZED_NAME = 112

_METHOD = re.compile(rb"(?:\r\n)*[A-Z][A-Z-]{0,19} ")
_METHOD_BEGINS = re.compile(rb"(?:\r\n)*\r?(?:[A-Z][A-Z-]{0,19})?")

_AWAY = (
    "The Penstock server does not answer at the moment. Running clusters are not affected; "
    "please try again in a minute, and tell your administrator if this goes on.\n"
)
AWAY_RESPONSE = (
    "HTTP/1.1 503 Service Unavailable\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
    f"Content-Length: {len(_AWAY)}\r\n"
    "Retry-After: 10\r\n"
    "Connection: close\r\n\r\n" + _AWAY
).encode("ascii")

_peek = bytearray(clienthello.LIMIT)


def begins_http(data: bytes) -> bool | None:
    """Whether the first bytes are a request line's (RFC 9112 §2.2, §3: a method in capital letters
    and a space, after empty lines perhaps); None when there are too few to say."""
    if _METHOD.match(data):
        return True
    return None if _METHOD_BEGINS.fullmatch(data) and len(data) < 32 else False


def alert(description: int) -> bytes:
    """A fatal TLS alert as a record of its own (RFC 8446 §5.1, §6)."""
    return bytes((21, 3, 3, 0, 2, 2, description))


class Surroundings(Protocol):
    """What a connection needs of the door."""

    loop: Loop
    pipes: Pipes
    routes: Routes
    sniffing: Deadlines
    connecting: Deadlines
    leaving: Deadlines

    def hand_over(self, arrival: Arrival) -> None:
        """Give the socket to the server, now or when there is one."""

    def refused(self, arrival: Arrival, why: str, **facts: object) -> None:
        """Note a refusal."""

    def spliced(self, pump: Pump) -> None:
        """Note a pump that runs."""

    def left(self, arrival: Arrival, pump: Pump | None) -> None:
        """The connection is over, as far as the door is concerned."""


class Arrival:
    """An accepted connection whose fate is open."""

    __slots__ = ("_door", "_low_water", "_upstream", "address", "origin", "sock", "tls")

    def __init__(self, door: Surroundings, sock: socket.socket, address: str, origin: str) -> None:
        self._door = door
        self._low_water = False
        self._upstream: socket.socket | None = None
        self.sock = sock
        self.address = address
        self.origin = origin
        self.tls = False

    def start(self) -> None:
        """Begin to watch; often the first bytes are there already."""
        self._door.loop.add(self.sock.fileno(), self.look)
        self._door.sniffing.add(self, self._door.loop.now)
        self.look(0)

    def look(self, mask: int) -> None:
        """Peek, and decide when the bytes suffice."""
        if mask & HUNG_UP:
            self.drop()
            return
        try:
            size = self.sock.recv_into(_peek, 0, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if size == 0:
            self.drop()
            return
        self._judge(bytes(_peek[:size]), bool(mask & ENDING))

    def _judge(self, data: bytes, ended: bool) -> None:
        verdict = clienthello.parse(data)
        if isinstance(verdict, clienthello.Hello):
            self._decided()
            self.tls = True
            if verdict.name is None or not verdict.name.startswith(PREFIX):
                self._door.hand_over(self)
            else:
                self._route(verdict.name)
        elif isinstance(verdict, clienthello.NeedMore):
            self._wait_for(verdict.size, ended)
        elif isinstance(verdict, clienthello.Malformed):
            self._decided()
            self.refuse(alert(DECODE_ERROR), "bad hello", reason=verdict.reason)
        else:
            http = begins_http(data)
            if http is None:
                self._wait_for(len(data) + 1, ended)
                return
            self._decided()
            if http:
                self._door.hand_over(self)
            else:
                self.refuse(b"", "neither HTTP nor TLS")

    def _wait_for(self, size: int, ended: bool) -> None:
        if ended:
            self.drop()
            return
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
        self._low_water = True

    def _decided(self) -> None:
        self._door.sniffing.discard(self)
        if self._low_water:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def _route(self, name: str) -> None:
        address = self._door.routes.find(name)
        if address is None:
            self.refuse(alert(UNRECOGNIZED_NAME), "unknown name", name=name)
            return
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            upstream = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self._unreachable(address, error)
            return
        self._upstream = upstream
        upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        upstream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        code = upstream.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            self._unreachable(address, OSError(code, errno.errorcode.get(code, "error")))
            return
        self._door.loop.change(self.sock.fileno(), self._client_waits)
        self._door.loop.add(upstream.fileno(), self._connected)
        self._door.connecting.add(self, self._door.loop.now)

    def _client_waits(self, mask: int) -> None:
        if mask & HUNG_UP:
            self.drop()

    def _connected(self, mask: int) -> None:
        assert self._upstream is not None
        if mask & HUNG_UP:
            code = self._upstream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._unreachable(None, OSError(code, errno.errorcode.get(code, "hung up")))
        elif mask & WRITABLE:
            self._door.connecting.discard(self)
            upstream, self._upstream = self._upstream, None
            pump = Pump(self._door.loop, self._door.pipes, self.sock, upstream, self._pumped)
            self._door.spliced(pump)
            pump.start()

    def _pumped(self, pump: Pump) -> None:
        self._door.left(self, pump)

    def connect_timed_out(self) -> None:
        """The scheduler did not answer in time."""
        self._unreachable(None, TimeoutError(errno.ETIMEDOUT, "no answer in time"))

    def _unreachable(self, address: Address | None, error: OSError) -> None:
        self._door.connecting.discard(self)
        self._drop_upstream()
        self.refuse(
            alert(INTERNAL_ERROR), "scheduler unreachable", to=address, error=error.strerror
        )

    def away(self) -> None:
        """No server took it in time."""
        self.refuse(b"" if self.tls else AWAY_RESPONSE, "no server")

    def refuse(self, words: bytes, why: str, **facts: object) -> None:
        """Say the last words and leave. What the client sent is read first: closing a socket with
        unread bytes resets the connection, and the client might never see the words."""
        self._door.refused(self, why, **facts)
        try:
            with contextlib.suppress(BlockingIOError):
                self.sock.recv_into(_peek)
            if words:
                self.sock.send(words)
            self.sock.shutdown(socket.SHUT_RDWR if not words else socket.SHUT_WR)
        except OSError:
            self.drop()
            return
        if not words:
            self.drop()
            return
        self._door.loop.change(self.sock.fileno(), self._leave)
        self._door.leaving.add(self, self._door.loop.now)
        self._leave(0)

    def _leave(self, mask: int) -> None:
        """Throw away what still comes, until the client closes or the deadline ends it."""
        try:
            for _ in range(8):
                if not self.sock.recv_into(_peek):
                    self.drop()
                    return
        except BlockingIOError:
            return
        except OSError:
            self.drop()

    def give_up_watch(self) -> None:
        """Stop watching a socket that lives on in the server."""
        self._door.loop.remove(self.sock.fileno())

    def drop(self) -> None:
        """Close, without a word."""
        door = self._door
        door.sniffing.discard(self)
        door.connecting.discard(self)
        door.leaving.discard(self)
        self._drop_upstream()
        if self.sock.fileno() >= 0:
            door.loop.forget(self.sock.fileno())
            self.sock.close()
            door.left(self, None)

    def _drop_upstream(self) -> None:
        if self._upstream is not None:
            self._door.loop.forget(self._upstream.fileno())
            self._upstream.close()
            self._upstream = None
