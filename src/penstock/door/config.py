"""What a door is told at its start, and how that travels to the process.

The door reads no settings file: whoever starts it (server, command line, unit file) hands it one
JSON argument. It holds no secret, so it may stand in the process list.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class DoorConfig:
    """Everything that one door process needs; times in seconds.

    ``control``: path of the Unix socket to which servers connect; its directory is made with mode
    0700. ``routes``: file (0600) of the routes known last. ``log``: file for the log lines, standard
    error when None. ``listen``: (host, port) pairs; port 0 lets the kernel choose.
    ``per_address``: connections at a time that one client address (IPv6: one /64 network) may hold
    in the door; those handed to the server no longer count. ``sniff_seconds``: how long a client may
    take until its first bytes tell what it wants. ``pending_limit`` and ``pending_seconds``: how many
    connections wait, and how long, while no server takes them. ``connect_seconds``: how long the
    door tries to reach a scheduler.
    """

    control: str
    routes: str
    listen: tuple[Address, ...]
    log: str | None = None
    per_address: int = 4096
    sniff_seconds: float = 10.0
    pending_limit: int = 1024
    pending_seconds: float = 30.0
    connect_seconds: float = 10.0

    @classmethod
    def in_state(cls, state_dir: str | os.PathLike[str], listen: tuple[Address, ...]) -> DoorConfig:
        """The usual places below a state directory: ``run/door.sock``, ``run/routes.json``, ``door.log``."""
        base = os.path.abspath(state_dir)
        return cls(
            control=os.path.join(base, "run", "door.sock"),
            routes=os.path.join(base, "run", "routes.json"),
            listen=listen,
            log=os.path.join(base, "door.log"),
        )

    def to_json(self) -> str:
        """The one argument of ``python -m penstock.door``."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> DoorConfig:
        """Read what ``to_json`` wrote; raises ValueError with a sentence for anything else."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ValueError(f"The door's configuration is not JSON: {error}.") from None
        if not isinstance(data, Mapping):
            raise ValueError("The door's configuration must be a JSON object.")
        known = {field.name for field in fields(cls)}
        wrong = sorted(set(data) - known) + sorted({"control", "routes", "listen"} - set(data))
        if wrong:
            raise ValueError(f"The door's configuration has unknown or missing keys: {wrong}.")
        listen = tuple((str(host), int(port)) for host, port in data["listen"])
        return cls(**{**data, "listen": listen})


def show_address(address: Address) -> str:
    """``host:port`` for people, with brackets around IPv6."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
