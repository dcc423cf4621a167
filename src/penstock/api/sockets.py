"""Who listens on this host: the owners of listening TCP ports, as the kernel tells them.

Source of the format: proc_pid_net(5), ``/proc/net/tcp`` and ``tcp6`` (addresses are hexadecimal
32-bit words in host byte order, state 0A is LISTEN, the eighth column is the owner's uid).
"""

from __future__ import annotations

import ipaddress
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

IP = ipaddress.IPv4Address | ipaddress.IPv6Address

_LISTEN = "0A"
_FRESH = 1.0


class Listeners:
    """The table of listening sockets, read again when it is a second old or lacks a port.

    A thousand schedulers that reconnect after a restart then cost a handful of reads.
    """

    def __init__(self, proc: Path = Path("/proc/net")) -> None:
        self._proc = proc
        self._lock = threading.Lock()
        self._ports: dict[int, list[tuple[IP, int]]] = {}
        self._read_at = float("-inf")

    def uids(self, host: str, port: int) -> set[int]:
        """The uids of all sockets that would take a connection to ``host``:``port`` here."""
        wanted = ipaddress.ip_address(host)
        with self._lock:
            if port not in self._ports or time.monotonic() - self._read_at > _FRESH:
                self._read_at = time.monotonic()
                self._ports = self._read()
            found = self._ports.get(port, [])
        return {uid for address, uid in found if address.is_unspecified or address == wanted}

    def _read(self) -> dict[int, list[tuple[IP, int]]]:
        ports: dict[int, list[tuple[IP, int]]] = {}
        for name in ("tcp", "tcp6"):
            try:
                text = (self._proc / name).read_text()
            except FileNotFoundError:  # a kernel without IPv6
                continue
            for address, port, uid in _listening(text):
                ports.setdefault(port, []).append((address, uid))
        return ports


def _listening(text: str) -> Iterator[tuple[IP, int, int]]:
    for line in text.splitlines()[1:]:
        columns = line.split()
        if len(columns) >= 8 and columns[3] == _LISTEN:
            words, _, number = columns[1].partition(":")
            yield _address(words), int(number, 16), int(columns[7])


def _address(words: str) -> IP:
    raw = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    ip = ipaddress.ip_address(raw)
    return getattr(ip, "ipv4_mapped", None) or ip


LISTENERS = Listeners()
