"""Single-user mode: ``penstock serve`` without a configuration serves this Unix user alone.

The Dask configuration that it writes (0600) makes ``Gateway()`` without arguments work from every
process of this user; nobody else can read the password in it.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Mapping
from pathlib import Path

from penstock.server.state import State, write_private

PREFERRED_PORT = 8000

_HEADER = """\
# Written by `penstock serve`, removed by `penstock stop`: the way to your own gateway.
# It holds a password, so it is readable by you alone.
"""


def dask_config_file(environ: Mapping[str, str]) -> Path:
    """Where ``dask.config`` of this user looks besides the site's files (Dask's documentation)."""
    named = environ.get("DASK_CONFIG")
    if named and not named.endswith((".yaml", ".yml", ".json")):
        return Path(named).expanduser() / "penstock.yaml"
    return Path("~/.config/dask").expanduser() / "penstock.yaml"


def write_dask_config(path: Path, *, address: str, user: str, password: str) -> None:
    """Tell Dask of this user where the gateway is and how to log in. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    quote = json.dumps  # JSON strings are YAML strings
    write_private(
        path,
        f"{_HEADER}gateway:\n"
        f"  address: {quote(address)}\n"
        f"  auth:\n"
        f"    type: basic\n"
        f"    kwargs:\n"
        f"      username: {quote(user)}\n"
        f"      password: {quote(password)}\n",
    )


def remove_dask_config(path: Path) -> None:
    """Take the file away again if it is the one that we wrote."""
    with contextlib.suppress(OSError):
        if path.read_text().startswith(_HEADER):
            path.unlink()


def choose_address(state: State, *, door_is_there: bool) -> tuple[str, int]:
    """A loopback address: the one used before if it is free or our own door's, else a free one."""
    host = "127.0.0.1"
    kept = _kept_port(state)
    if kept is not None and (door_is_there or _free(host, kept)):
        return host, kept
    port = PREFERRED_PORT if _free(host, PREFERRED_PORT) else _any_free(host)
    write_private(state.address_file, f"{host}:{port}\n")
    return host, port


def free_address(address: str) -> str:
    """``host:0`` with a port that is free now: everybody must be told the same one."""
    host = address.rpartition(":")[0]
    return f"{host}:{_any_free(host.strip('[]'))}"


def _kept_port(state: State) -> int | None:
    try:
        text = state.address_file.read_text().strip().rpartition(":")[2]
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _any_free(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
