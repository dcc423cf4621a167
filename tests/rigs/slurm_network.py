"""Where the daemons of a test's Slurm listen."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path


def quiet_ports(count: int) -> list[int]:
    """Ports that nothing listens on now, below those that the system gives out by itself."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    first = 10_000 + int.from_bytes(os.urandom(2), "big") % (low - 12_000)
    found: list[int] = []
    for port in range(first, low):
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.bind(("", port))
            found.append(port)
        if len(found) == count:
            break
    return found


def bind_option() -> str:
    """Loopback only where that can be said: Slurm listens on what this host's name resolves to."""
    with contextlib.suppress(OSError):
        if socket.gethostbyname(socket.gethostname().split(".")[0]) == "127.0.0.1":
            return "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny"
    return ""
