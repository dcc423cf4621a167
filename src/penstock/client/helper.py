"""The notebook's hold on the process that submits its cluster's workers (``penstock.notebook``).

Closing its standard input is all that it takes to end it, and that happens by itself whenever this
process ends, however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

READY = 60.0
"""Seconds that the process may take to be connected; mostly imports on a slow file system."""

CANCELLED = 20.0
"""Seconds that closing a cluster waits until its jobs were told to end; they are in any case."""


class HelperError(Exception):
    """The process could not do its work; the text is for the user."""


class Helper:
    """One process for one cluster. ``show``: shows a line to the user."""

    def __init__(self, cluster: str, order: Mapping[str, object], show: Any = print) -> None:
        self._cluster = cluster
        self._show = show
        self._failed = ""
        self._connected = threading.Event()
        self._cancelled = threading.Event()
        self._over = self._leaving = False
        order = {**order, "cluster": cluster, "who": who(), "parent": os.getpid()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "penstock.notebook"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",  # nothing beside the notebook is imported by accident
            start_new_session=True,  # what interrupts or kills the kernel's group is not for it
        )
        self._write(order)
        self._thread = threading.Thread(target=self._listen, daemon=True, name="penstock-helper")
        self._thread.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ready(self) -> None:
        """Return once it is connected to the gateway. Raises HelperError."""
        if not await _set_within(self._connected, READY):
            raise HelperError(f"the process that submits the workers was not ready in {READY:g} s")
        if self._failed:
            raise HelperError(self._failed)

    async def leave(self, *, keep: bool) -> None:
        """Let it go, and its jobs with it unless ``keep``; returns once they were told to end."""
        self._leaving = True
        if self._process.poll() is None:
            self._write({"op": "leave", "keep": keep})
            if not keep and not await _set_within(self._cancelled, CANCELLED):
                self._show(
                    f"Cluster {self._cluster}: its jobs could not be removed in {CANCELLED:g} s; "
                    f"this is tried for a minute more, and they end when their scheduler is gone."
                )
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]

    def _write(self, message: Mapping[str, object]) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]

    def _listen(self) -> None:
        for line in self._process.stdout:  # type: ignore[union-attr]
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                self._hear(str(said.get("event")), str(said.get("text")))
        code = self._process.wait()
        if not self._connected.is_set():
            self._failed = self._failed or f"the process that submits the workers exited {code}"
        elif code and not self._over:
            self._show(f"Cluster {self._cluster}: the process that submits its workers is gone.")
        self._connected.set()
        self._cancelled.set()
        self._process.stdout.close()  # type: ignore[union-attr]

    def _hear(self, event: str, text: str) -> None:
        if event == "connected":
            self._connected.set()
        elif event == "cancelled":
            self._cancelled.set()
        elif event == "failed":
            self._failed = text
        elif event == "over":
            self._over = True
        elif event == "end":
            self._over = True
            self._cancelled.set()
        words = _WORDS.get(event)
        if words and not self._leaving:
            self._show(f"Cluster {self._cluster} {words.format(text)}")


_WORDS = {
    "standby": "gets its workers from {} from now on; this notebook stands by.",
    "active": "gets its workers from this notebook again.",
    "took": "gets its workers from this notebook now, and no longer from {}.",
    "over": "has ended: {}",
    "refused": "cannot be served by this notebook: {}",
    "trouble": "gets no workers at the moment: {}",
    "better": "gets workers again.",
}


async def _set_within(event: threading.Event, seconds: float) -> bool:
    """Wait without a thread: an interpreter that exits can start none any more."""
    deadline = time.monotonic() + seconds
    while not event.is_set():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


def who() -> str:
    """This notebook, for people."""
    return f"process {os.getpid()} on {platform.node()}"
