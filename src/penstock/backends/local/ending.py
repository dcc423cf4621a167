"""Which processes belong to a job, and how they are told to end.

A job's main process leads a session, so as long as it is there (a zombie counts: its pid is taken)
its session and its descendants are the job's. Once it is gone, only the tag in the environment
together with the owner's uid still proves anything; a session id alone may be somebody else's by
then. Every target is a (pid, start time), and is checked again when it is signalled.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable

from penstock.backends.local.journal import Look, Record, strays
from penstock.backends.local.proc import descendants, send
from penstock.model.errors import Unavailable
from penstock.model.ids import BatchId

Target = tuple[int, int]
Key = tuple[BatchId, int]
Targets = dict[Key, set[Target]]


class Enders:
    """Jobs that were told to end: what is left of each after its grace is killed.

    ``kill`` kills what is left of the jobs that it is given, and returns what it found.
    """

    def __init__(self, kill: Callable[[Targets], Awaitable[Targets]]) -> None:
        self._kill = kill
        self._keys: set[Key] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    def begin(self, jobs: Targets, grace: float) -> None:
        """Kill what is left of these in ``grace`` seconds, unless that is under way already."""
        fresh = {key: targets for key, targets in jobs.items() if key not in self._keys}
        if fresh:
            self._keys |= fresh.keys()
            task = asyncio.create_task(self._end(fresh, grace))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _end(self, jobs: Targets, grace: float) -> None:
        try:
            await asyncio.sleep(grace)
            left, pause = jobs, 0.02
            while pause < 5.0:  # what forks faster than that gets the next cancel
                with contextlib.suppress(Unavailable):  # the directory cannot be read just now
                    left = await self._kill(left)
                if not left:
                    return
                await asyncio.sleep(pause)
                pause *= 2
        finally:
            self._keys -= jobs.keys()

    async def aclose(self) -> None:
        """Wait for nothing: whoever comes next is asked to cancel what still lives."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


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


def asked_first(index: int, record: Record, targets: set[Target]) -> set[Target]:
    """Who of a job hears SIGTERM: its main process, or all when that is gone.

    Not the whole family at once: a worker's agent hands the data over before it ends its children,
    which it cannot when they are dead already.
    """
    started = record.started.get(index)
    main = (started.pid, started.start) if started else None
    return {main} if main is not None and main in targets else targets


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
