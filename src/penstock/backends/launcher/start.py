"""Start all jobs of a batch, or none: fork, wait until all are ready, record, open the gate."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import time

from penstock.backends.launcher.child import child
from penstock.backends.launcher.request import UNAVAILABLE, Refusal, Request, refusal
from penstock.backends.launcher.watch import stat_fields


def launch(request: Request) -> tuple[int, dict[int, int]]:
    """Start all jobs, or none.

    Returns (descriptor of the journal, pid → index). Raises Refusal when nothing runs.
    """
    pids: list[int] = []
    try:
        return _launch(request, pids)
    except (Refusal, OSError) as error:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if isinstance(error, Refusal):
            raise
        where = os.fsdecode(request.directory)
        raise refusal(error, f"jobs cannot be started in {where}") from error


def _launch(request: Request, pids: list[int]) -> tuple[int, dict[int, int]]:
    journal = os.open("journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
    status_out, status_in = os.pipe()
    gate_out, gate_in = os.pipe()
    for index in range(request.count):
        make_directory(request, index)
        pid = os.fork()
        if pid == 0:
            os.close(gate_in)
            child(request, index, status_in, gate_out)
        pids.append(pid)
    os.close(status_in)
    statuses = Statuses(status_out, request.deadline)
    statuses.wait_ready(len(pids))
    record(request, pids, journal)
    os.write(gate_in, b"g" * len(pids))
    failed = statuses.wait_running()
    if len(failed) == len(pids):
        raise Refusal(*failed[min(failed)])
    for descriptor in (status_out, gate_out, gate_in):
        os.close(descriptor)
    return journal, {pid: index for index, pid in enumerate(pids)}


def make_directory(request: Request, index: int) -> None:
    """The job's private directory. Ours is the parent, so nobody can swap it while we chown."""
    name = str(index)
    os.mkdir(name, 0o700)
    if request.identity is not None:
        os.chown(name, *request.identity, follow_symlinks=False)


def record(request: Request, pids: list[int], journal: int) -> None:
    """Write down who runs, in one write, before anyone does."""
    me = os.getpid()
    lines: list[dict[str, object]] = [
        {
            "boot": request.boot,
            "owner": request.owner,
            "uid": request.uid,
            "count": request.count,
            "pid": me,
            "start": start_time(me),
        }
    ]
    now = time.time()
    for index, pid in enumerate(pids):
        lines.append({"index": index, "pid": pid, "start": start_time(pid), "at": now})
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    if os.write(journal, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def start_time(pid: int) -> int:
    """Field 22 of /proc/<pid>/stat: clock ticks between boot and the process's start."""
    return int(stat_fields(pid)[19])


class Statuses:
    """What the children say through their common pipe, which closes in each when it runs."""

    def __init__(self, descriptor: int, deadline: float) -> None:
        self._descriptor = descriptor
        self._deadline = deadline
        self._rest = b""

    def _line(self) -> list[str] | None:
        """The next message as (word, index, kind, text); None at the end."""
        while b"\n" not in self._rest:
            left = self._deadline - time.monotonic()
            if left <= 0 or not select.select([self._descriptor], [], [], left)[0]:
                raise TimeoutError
            data = os.read(self._descriptor, 65536)
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        words: list[str] = json.loads(line)
        return words

    def wait_ready(self, count: int) -> None:
        """Until all children stand at the gate. Raises Refusal with the first one's trouble."""
        for ready in range(count):
            try:
                words = self._line()
            except TimeoutError:
                text = f"{count - ready} of {count} jobs were not ready in time"
                raise Refusal(UNAVAILABLE, text) from None
            if words is None:
                text = f"{count - ready} of {count} jobs died before they were ready"
                raise Refusal(UNAVAILABLE, text)
            if words[0] != "ready":
                raise Refusal(words[2], words[3])

    def wait_running(self) -> dict[str, tuple[str, str]]:
        """Until every child runs its program or has failed to: index → (kind, text) of failures.

        One that hangs there (a program on a dead file server) counts as running: it is on record.
        """
        failed = {}
        try:
            while (words := self._line()) is not None:
                failed[words[1]] = (words[2], words[3])
        except TimeoutError:
            pass
        return failed
