"""Which scheduler stands behind which cluster name, remembered over restarts of the door.

The server is the authority and sends its whole table whenever it connects; the file exists for the
time without it: a door that is restarted while the server is away still knows where to connect.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping

from penstock.door.config import Address

PREFIX = "daskgateway-"
"""How the ``gateway://`` comm of dask-gateway marks server names that mean a cluster."""

_NAME = re.compile(r"[0-9a-f]{32}")
_FORMAT = 1


def check_route(name: object, address: object) -> tuple[str, Address]:
    """The route when it is one: 32 hex digits, an IP address (no host name: the door must not wait
    for DNS) and a port. Raises ValueError with a sentence otherwise."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"A route needs a cluster name of 32 hex digits, not {name!r:.80}.")
    if not isinstance(address, list | tuple) or len(address) != 2:
        raise ValueError(f"The route of {name} needs a host and a port, not {address!r:.80}.")
    host, port = address
    if not isinstance(host, str) or not _is_ip(host):
        raise ValueError(f"The route of {name} needs an IP address, not {host!r:.80}.")
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        raise ValueError(f"The route of {name} needs a port from 1 to 65535, not {port!r:.80}.")
    return name, (host, port)


def _is_ip(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except (OSError, ValueError):
        return False
    return True


class Routes:
    """The table, by cluster name. ``dirty`` says that the file does not hold it yet."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.table: dict[str, Address] = {}
        self.dirty = False

    def find(self, server_name: str) -> Address | None:
        """The scheduler that a TLS server name means; None for one that is not known."""
        return self.table.get(server_name[len(PREFIX) :])

    def put(self, name: str, address: Address) -> None:
        """Set one route (checked by ``check_route``)."""
        if self.table.get(name) != address:
            self.table[name] = address
            self.dirty = True

    def drop(self, name: str) -> None:
        """Forget one route; open connections are not touched."""
        self.dirty |= self.table.pop(name, None) is not None

    def replace(self, table: Mapping[str, Address]) -> None:
        """Put a whole table in the place of the present one."""
        if self.table != table:
            self.table = dict(table)
            self.dirty = True

    def load(self) -> None:
        """Read the file; no file is an empty table. Raises ValueError with a sentence for a file
        that cannot be used; the table is then empty, until the server sends its own."""
        try:
            with open(self._path, "rb") as file:
                data = json.loads(file.read(64 << 20))
            if data["format"] != _FORMAT:
                raise ValueError(f"its format is {data['format']!r:.20}, not {_FORMAT}")
            self.table = dict(check_route(*route) for route in data["routes"].items())
        except FileNotFoundError:
            return
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(
                f"The route file {self._path} cannot be used ({error}); "
                "the door starts without routes until a server sends them."
            ) from None

    def save(self) -> None:
        """Write the file whole, mode 0600. Raises OSError; the table then stays ``dirty``."""
        draft = f"{self._path}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(draft, flags, 0o600), "w", encoding="ascii") as file:
            json.dump({"format": _FORMAT, "routes": self.table}, file)
        os.replace(draft, self._path)
        self.dirty = False
