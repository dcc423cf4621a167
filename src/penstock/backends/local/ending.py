"""Which processes belong to a job, and how they are told to end.

A job's main process leads a session, so as long as it is there (a zombie counts: its pid is taken)
its session and its descendants are the job's. Once it is gone, only the tag in the environment
together with the owner's uid still proves anything; a session id alone may be somebody else's by
then. Every target is a (pid, start time), and is checked again when it is signalled.
"""

from __future__ import annotations

import signal

from penstock.backends.local.journal import Look, Record, strays
from penstock.backends.local.proc import descendants, send
from penstock.model.ids import BatchId

Target = tuple[int, int]


def members(batch: BatchId, index: int, record: Record, look: Look) -> set[Target]:
    """All living processes of one job."""
    found = {(process.pid, process.start) for process in strays(batch, index, record, look)}
    started = record.started.get(index)
    main = look.has(started.pid, started.start) if started and record.boot == look.boot else None
    if main is not None:
        family = descendants(look.processes, main.pid) | {main.pid}
        for process in look.processes.values():
            if process.alive and (process.pid in family or process.sid == main.pid):
                found.add((process.pid, process.start))
    return found


def ask(targets: set[Target]) -> list[str]:
    """Ask to end; a stopped process is woken up to hear it. Returns what refused."""
    refused = send(targets, signal.SIGTERM)
    send(targets, signal.SIGCONT)
    return refused


def kill(targets: set[Target]) -> list[str]:
    """End without asking. Returns what refused."""
    return send(targets, signal.SIGKILL)


def still(targets: set[Target], look: Look) -> set[Target]:
    """Those of the targets that still live."""
    alive = set()
    for pid, start in targets:
        process = look.has(pid, start)
        if process is not None and process.alive:
            alive.add((pid, start))
    return alive
