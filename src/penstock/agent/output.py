"""The job's output: what children print passes through us, and we have words of our own."""

import os

from penstock.agent.base import write_all
from penstock.agent.endings import Ring


def pass_on(source: int, ring: Ring) -> None:
    """Copy a child's output to ours until it ends, keeping the tail."""
    while True:
        chunk = os.read(source, 65536)
        if not chunk:
            return
        ring.add(chunk)
        write_all(1, chunk)


def note(text: str, ring: Ring) -> None:
    """A line of our own in the job's output."""
    line = ("penstock: %s\n" % text).encode("utf-8", "replace")
    ring.add(line)
    write_all(1, line)
