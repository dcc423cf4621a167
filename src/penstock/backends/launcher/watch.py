"""Wait for the jobs, end what each left behind, write down how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time

_GRACE = 2.0
"""Seconds spent on ending what a finished job left behind."""


def watch(jobs: dict[int, int], journal: int, notice: str, oom: int) -> None:
    """Until all jobs ended: end what each left behind, then write down how it ended."""
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    while jobs:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        if ended is None:
            continue
        pid = ended.si_pid
        index = jobs.pop(pid, None)
        if index is not None:
            # Not reaped yet, so its pid and session cannot belong to anybody else.
            end_rest(pid, index, jobs)
        _, status = os.waitpid(pid, 0)
        if index is None:
            continue
        code = os.waitstatus_to_exitcode(status)
        now = oom_kills()
        out = code == -signal.SIGKILL and now > oom
        oom = now
        note_end(journal, index, 128 - code if code < 0 else code, out)
        try:
            sender.sendto(b"!", notice)
        except OSError:
            continue  # nobody listens, or enough notices wait already
    end_rest(0, -1, jobs)


def note_end(journal: int, index: int, code: int, oom: bool) -> None:
    """Write down how a job ended, however long the disk stays full."""
    line = {"index": index, "code": code, "oom": oom, "at": time.time()}
    # The leading newline sets it apart from a line that a full disk cut off.
    data = b"\n" + json.dumps(line).encode() + b"\n"
    while True:
        try:
            if os.write(journal, data) == len(data):
                return
        except OSError:
            pass
        time.sleep(1.0)


def end_rest(leader: int, index: int, jobs: dict[int, int]) -> None:
    """Kill what a job left behind; with leader 0 whatever is left at all.

    Orphans of the jobs become our children (we are a subreaper), also those with a new session.
    """
    if leader:
        with contextlib.suppress(OSError):
            os.killpg(leader, signal.SIGKILL)
    end = time.monotonic() + _GRACE
    while time.monotonic() < end:
        left = [
            pid
            for pid in children()
            if pid not in jobs and pid != leader and (not leader or belongs(pid, leader, index))
        ]
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
            except OSError:
                continue
        if not left:
            return
        time.sleep(0.002)


def children() -> list[int]:
    """Our children, orphans of the jobs included (needs CONFIG_PROC_CHILDREN, which all have)."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children", "rb") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def belongs(pid: int, leader: int, index: int) -> bool:
    """Whether an orphan came from this job: by its session, or by its environment."""
    ours = {b"PENSTOCK_TAG=" + os.environb[b"PENSTOCK_TAG"], b"PENSTOCK_INDEX=%d" % index}
    try:
        if int(stat_fields(pid)[3]) == leader:
            return True
        with open(f"/proc/{pid}/environ", "rb") as file:
            return ours <= set(file.read().split(b"\0"))
    except (OSError, ValueError):
        return False


def stat_fields(pid: int) -> list[bytes]:
    """The fields of /proc/<pid>/stat from the third (state) on. Raises OSError."""
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:
        text = stat.read()
    return text[text.rindex(b")") + 2 :].split()


def oom_kills() -> int:
    """How often this machine's kernel ended a process for lack of memory since boot."""
    try:
        with open("/proc/vmstat", "rb") as file:
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0
