"""The process: takes its places, raises its limits, tells who started it, and runs a door."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys

from penstock.door.config import DoorConfig, show_address
from penstock.door.core import Door
from penstock.door.listen import CannotListen, Control, open_listeners
from penstock.door.logs import Log
from penstock.door.routes import Routes

EXIT_CANNOT_LISTEN = 3
"""Exit code when an address or the control socket cannot be had; the reason is on standard error."""

_MANY_FILES = 1 << 20


def raise_file_limit() -> int:
    """Open as many files as the system lets us; returns that number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return _MANY_FILES if soft == resource.RLIM_INFINITY else soft


def main(config: DoorConfig, ready: int | None = None) -> int:
    """Run a door until its end; returns the process's exit code.

    ``ready``: a descriptor that gets ``ready`` or the reason of the failure as a sentence, and is
    then closed: how the supervisor learns what became of its door.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    listeners: list[socket.socket] = []
    try:
        control = Control(config.control)
        log = Log(config.log)
        listeners = open_listeners(config.listen)
        listener = control.open()
    except (CannotListen, OSError) as error:
        for sock in listeners:
            sock.close()
        print(f"penstock door: {error}", file=sys.stderr)
        _tell(ready, str(error))
        return EXIT_CANNOT_LISTEN
    routes = Routes(config.routes)
    try:
        routes.load()
    except ValueError as error:
        log.warning("routes not loaded", error=str(error))
    door = Door(config, log, routes, control, listeners, raise_file_limit())
    shown = [show_address(sock.getsockname()[:2]) for sock in listeners]
    log.info("listening", at=shown, pid=os.getpid(), routes=len(routes.table))
    _tell(ready, "ready")
    door.run(listener)
    log.close()
    return 0


def _tell(ready: int | None, text: str) -> None:
    if ready is not None:
        with contextlib.suppress(OSError):
            os.write(ready, text.encode())
        os.close(ready)
