"""A network of its own: processes there reach this host at one address, and nothing else of it.

What listens at this host's loopback address cannot be reached from there, as from a batch node that
has no route to a scheduler.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rigs.needs import need_root


@dataclass(frozen=True)
class Island:
    """A network namespace with one cable to this host."""

    name: str
    here: str
    """This host's address as the island knows it."""
    there: str
    """The island's address."""

    def wrapper(self, path: Path, command: str) -> Path:
        """A program that runs ``command`` with its own arguments on the island."""
        path.write_text(f'#!/bin/sh\nexec ip netns exec {self.name} {command} "$@"\n')
        path.chmod(0o755)
        return path


@contextlib.contextmanager
def island() -> Iterator[Island]:
    """Make an island. Needs root and iproute2: skipped without root, but not in CI."""
    need_root("networks can only be made as root")
    assert shutil.which("ip"), "there is no ip command: install iproute2"
    number = os.getpid()
    net = f"198.18.{number // 64 % 256}.{number % 64 * 4}".rpartition(".")
    base = int(net[2])
    made = Island(f"pk-{number}", f"{net[0]}.{base + 1}", f"{net[0]}.{base + 2}")
    outer, inner = f"pk{number}a", f"pk{number}b"
    try:
        _ip("netns", "add", made.name)
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner)
        _ip("link", "set", inner, "netns", made.name)
        _ip("addr", "add", f"{made.here}/30", "dev", outer)
        _ip("link", "set", outer, "up")
        _ip("-n", made.name, "addr", "add", f"{made.there}/30", "dev", inner)
        _ip("-n", made.name, "link", "set", inner, "up")
        _ip("-n", made.name, "link", "set", "lo", "up")
        yield made
    finally:
        for command in (["link", "del", outer], ["netns", "del", made.name]):
            subprocess.run(["ip", *command], capture_output=True)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


class PortForwarding:
    """What a facility's router does: connections to some of its ports go on to another host."""

    def __init__(self, here: str, there: str, ports: range) -> None:
        self.there = there
        self.forwarded = 0
        self._listeners = [socket.create_server((here, port)) for port in ports]
        self._open: list[socket.socket] = []
        for listener in self._listeners:
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        port = listener.getsockname()[1]
        with contextlib.suppress(OSError):
            while True:
                one, _ = listener.accept()
                with contextlib.suppress(OSError):
                    other = socket.create_connection((self.there, port), timeout=30)
                    other.settimeout(None)
                    self._open += [one, other]
                    self.forwarded += 1
                    for pair in ((one, other), (other, one)):
                        threading.Thread(target=_pour, args=pair, daemon=True).start()
                    continue
                one.close()

    def close(self) -> None:
        """End it, with all that it holds."""
        for each in [*self._listeners, *self._open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def _pour(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
