"""The door's log: one JSON object a line, so that no client's text can look like a line of ours.

Not ``structlog`` as in the server: the door keeps to the standard library, starts fast and stays
small. A flood of hostile connections must not fill the disk either: lines above a rate are counted
and left out, and a file that grew is renamed to ``.1`` (one older file is kept).
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TextIO

_RATE = 20.0
"""Lines a second in the long run."""
_BURST = 200.0
_MAX_FILE = 8 << 20


class Log:
    """Writes lines to a file (mode 0600), or to standard error when there is no path."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._file: TextIO | None = None
        self._allowed = _BURST
        self._filled = time.monotonic()
        self._left_out = 0
        self._open()

    def info(self, event: str, **facts: object) -> None:
        """Something worth knowing."""
        self._write("info", event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """Something that an administrator may have to look at."""
        self._write("warning", event, facts)

    def error(self, event: str, **facts: object) -> None:
        """Something that stops the door, or a part of it, from working."""
        self._write("error", event, facts)

    def close(self) -> None:
        """Close the file."""
        if self._path is not None and self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        if self._path is None:
            self._file = sys.stderr
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        descriptor = os.open(self._path, flags, 0o600)
        self._file = os.fdopen(descriptor, "a", encoding="ascii")

    def _write(self, level: str, event: str, facts: dict[str, object]) -> None:
        now = time.monotonic()
        self._allowed = min(_BURST, self._allowed + (now - self._filled) * _RATE)
        self._filled = now
        if self._allowed < 1:
            self._left_out += 1
            return
        self._allowed -= 1
        if self._left_out:
            facts = {**facts, "lines_left_out": self._left_out}
            self._left_out = 0
        clock = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(clock))
        line = {"time": f"{stamp}.{int(clock * 1000) % 1000:03d}Z", "level": level, "event": event}
        try:
            self._emit(json.dumps({**line, **facts}, default=str) + "\n")
        except OSError:  # the disk is full: serving goes on
            self._left_out += 1

    def _emit(self, line: str) -> None:
        if self._file is None:
            return
        self._file.write(line)
        self._file.flush()
        if self._path is not None and self._file.tell() > _MAX_FILE:
            self.close()
            os.replace(self._path, f"{self._path}.1")
            self._open()
