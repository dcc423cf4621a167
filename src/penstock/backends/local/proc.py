"""What runs on this machine, as ``/proc`` tells it: the process table and safe signals.

A pid alone names nothing, because the kernel gives it out again; pid and start time together do.
So every process here carries both, and a signal goes out through a pidfd whose start time was
checked after it was opened. Read from ``/proc`` directly, because one look over some hundred
processes must cost milliseconds and needs only four fields (``psutil`` takes ten times that).

Facts about the files: proc_pid_stat(5), proc_pid_environ(5), pidfd_open(2).
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

TAG = b"PENSTOCK_TAG="
INDEX = b"PENSTOCK_INDEX="

_TICKS = os.sysconf("SC_CLK_TCK")
_SETTLED = 10.0
"""Seconds after which a process without a tag is taken to be none of ours for good. A job shows
its launcher's environment for the instant between fork and exec, so a young one is read again."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process. ``start`` is in clock ticks since boot; ``state`` the kernel's letter.

    ``tag`` and ``index`` are what its environment claims (anyone may claim anything), ``uid`` its
    real user id, read only for those that claim a tag.
    """

    pid: int
    ppid: int
    sid: int
    start: int
    state: str
    tag: str = ""
    index: int | None = None
    uid: int | None = None

    @property
    def alive(self) -> bool:
        """False for a zombie: it runs nothing any more."""
        return self.state not in "ZX"


def parse_stat(text: bytes) -> Process:
    """A line of ``/proc/<pid>/stat``. The name in it may hold spaces and brackets of any kind."""
    pid, _, rest = text.partition(b" (")
    fields = rest[rest.rindex(b")") + 2 :].split(None, 21)
    return Process(
        pid=int(pid),
        state=fields[0].decode("ascii"),
        ppid=int(fields[1]),
        sid=int(fields[3]),
        start=int(fields[19]),
    )


def parse_environ(environ: bytes) -> tuple[str, int | None]:
    """(tag, index) that an environment claims; ("", None) without a tag."""
    tag, index = "", None
    for entry in environ.split(b"\0"):
        if entry.startswith(TAG):
            tag = entry[len(TAG) :].decode("ascii", "replace")
        elif entry.startswith(INDEX):
            digits = entry[len(INDEX) :]
            index = int(digits) if digits.isdigit() and len(digits) < 9 else None
    return tag, index


def boot_id() -> str:
    """The kernel's id of this boot: no process of another boot is alive."""
    return _read("/proc/sys/kernel/random/boot_id").decode("ascii").strip()


def uptime_ticks() -> int:
    """Now, in the unit of ``Process.start``."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS)


def look(pid: int) -> Process | None:
    """One process without its environment; None when there is none (also when it is half gone)."""
    try:
        return parse_stat(_read(f"/proc/{pid}/stat"))
    except (OSError, ValueError):
        return None


class ProcessTable:
    """Takes one look after another, and remembers what cannot change between them."""

    def __init__(self) -> None:
        self._claims: dict[tuple[int, int], tuple[str, int | None, int | None]] = {}

    def scan(self) -> dict[int, Process]:
        """All processes by pid, with the claims that may be read (as root all, else our own)."""
        found: dict[int, Process] = {}
        claims: dict[tuple[int, int], tuple[str, int | None, int | None]] = {}
        now = uptime_ticks()
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            process = look(int(name))
            if process is None:
                continue
            key = (process.pid, process.start)
            claim = self._claims.get(key) or _claim(process.pid)
            if claim[1] is not None or now - process.start > _SETTLED * _TICKS:
                claims[key] = claim
            if claim[0]:
                process = Process(
                    process.pid, process.ppid, process.sid, process.start, process.state, *claim
                )
            found[process.pid] = process
        self._claims = claims
        return found


def _claim(pid: int) -> tuple[str, int | None, int | None]:
    try:
        tag, index = parse_environ(_read(f"/proc/{pid}/environ"))
        return (tag, index, _real_uid(pid)) if tag else ("", None, None)
    except (OSError, ValueError):
        return "", None, None


def _real_uid(pid: int) -> int:
    status = _read(f"/proc/{pid}/status")
    at = status.index(b"\nUid:")
    return int(status[at + 5 :].split(None, 1)[0])


def descendants(processes: Mapping[int, Process], root: int) -> set[int]:
    """Pids of all children of ``root``, and theirs."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.ppid, []).append(process.pid)
    found: set[int] = set()
    todo = [root]
    while todo:
        for pid in children.get(todo.pop(), ()):
            if pid not in found:
                found.add(pid)
                todo.append(pid)
    return found


def send(targets: Iterable[tuple[int, int]], number: signal.Signals) -> list[str]:
    """Signal each (pid, start) that is still that very process; absent ones are fine.

    Returns a sentence for each that refused, because it runs as somebody else by now.
    """
    refused = []
    for pid, start in targets:
        try:
            _send(pid, start, number)
        except ProcessLookupError:
            continue
        except PermissionError as error:
            refused.append(f"process {pid} may not be signalled: {error.strerror}")
    return refused


def _send(pid: int, start: int, number: signal.Signals) -> None:
    try:
        handle = os.pidfd_open(pid)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        # Before Linux 5.3 there is only the check right before.
        process = look(pid)
        if process is not None and process.start == start:
            os.kill(pid, number)
        return
    try:
        # The handle holds on to one process. Whether it is ours is asked after it was taken.
        process = look(pid)
        if process is not None and process.start == start:
            signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(descriptor, 65536)
        if len(data) < 4096:
            return data
        parts = [data]
        while data := os.read(descriptor, 1 << 20):
            parts.append(data)
        return b"".join(parts)
    finally:
        os.close(descriptor)
