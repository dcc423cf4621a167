"""Opening the door's sockets, with errors that say what to do."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Sequence

from penstock.door.config import Address, show_address

_BACKLOG = 4096


class CannotListen(Exception):
    """An address or the control socket cannot be used; the text is a sentence for people."""


def open_listeners(addresses: Sequence[Address]) -> list[socket.socket]:
    """Listening TCP sockets, non-blocking, for all addresses that the hosts stand for. An empty
    host or ``*`` means every address of the machine. Raises CannotListen; then none stays open."""
    opened: list[socket.socket] = []
    try:
        for host, port in addresses:
            for family, place in _resolve(host, port):
                opened.append(_open_listener(family, place, (host, port)))
    except CannotListen:
        for sock in opened:
            sock.close()
        raise
    return opened


def _resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, Address]]:
    if host in ("", "*"):
        every = [(socket.AF_INET, ("0.0.0.0", port))]  # noqa: S104
        return [*every, (socket.AF_INET6, ("::", port))] if socket.has_dualstack_ipv6() else every
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except OSError as error:
        raise CannotListen(
            f"The address {show_address((host, port))} cannot be listened at: {error.strerror}. "
            "Give an address or host name of this machine."
        ) from None
    return list(dict.fromkeys((family, (str(at[0]), int(at[1]))) for family, _, _, _, at in found))


def _open_listener(family: int, place: Address, asked: Address) -> socket.socket:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise CannotListen(_why(asked, error)) from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Inherited by every accepted socket, which saves two system calls a connection.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.bind(place)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise CannotListen(_why(asked, error)) from None
    return sock


def _why(address: Address, error: OSError) -> str:
    shown = show_address(address)
    if error.errno == errno.EADDRINUSE:
        return (
            f"The address {shown} is in use by another process (`ss -ltnp 'sport = :{address[1]}'` "
            "shows which). Stop that process, or configure another port."
        )
    if error.errno == errno.EACCES:
        return (
            f"This user may not listen at {shown}: ports below 1024 need root or the capability "
            "CAP_NET_BIND_SERVICE. Configure a port from 1024 on, or grant it."
        )
    return (
        f"The address {shown} cannot be listened at: {error.strerror}. Configure another address."
    )


class Control:
    """The control socket's place: a lock that only one door holds, and the listening socket.

    The lock is what tells a dead door's leftover socket from a living door's.
    """

    def __init__(self, path: str) -> None:
        """Raises CannotListen when another door holds the place, or it cannot be made."""
        self._path = path
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            os.chmod(os.path.dirname(path), 0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._lock = os.open(f"{path}.lock", flags, 0o600)
        except OSError as error:
            raise CannotListen(
                f"The door's run directory {os.path.dirname(path)} cannot be used: "
                f"{error.strerror}. Make it writable for this user."
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise CannotListen(
                f"Another door already serves {path}. Stop it (`penstock stop`) or use another "
                "state directory."
            ) from None

    def open(self) -> socket.socket:
        """The listening control socket, mode 0600. Raises CannotListen."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            if os.path.lexists(self._path):
                os.unlink(self._path)
            mask = os.umask(0o177)
            try:
                sock.bind(self._path)
            finally:
                os.umask(mask)
            sock.listen(64)
        except OSError as error:
            sock.close()
            raise CannotListen(
                f"The control socket {self._path} cannot be made: {error.strerror or error}. "
                "A path may have at most 107 bytes; use a shorter or another state directory."
            ) from None
        return sock

    def release(self) -> None:
        """Leave the place to a successor."""
        if self._lock >= 0:
            if os.path.lexists(self._path):
                os.unlink(self._path)
            os.close(self._lock)
            self._lock = -1
