"""One cluster in this process's memory: its record, its journal, and what is known of it now.

All of it can be rebuilt from the store and one look at the backends. ``cluster`` is changed only
through ``Registry.update``, ``rows`` only by the reconcile of this cluster; whoever else has news
leaves them here as facts (``outcome``, ``exit_reports``, ``retired``) and wakes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from penstock.control.channel import ExitReport
from penstock.control.deaths import Health
from penstock.control.facts import NEVER, NOT_TAKEN, SCHEDULER, Tracked
from penstock.control.room import Load, Pressed
from penstock.control.waiting import Said
from penstock.control.walltime import Lifetime
from penstock.model.cluster import BatchRow, Cluster
from penstock.model.ids import parse_worker_name

MAX_CLOSED = 200
"""Closed rows that are remembered a cluster, for their logs."""


class Link(Protocol):
    """One live channel to a scheduler's agent."""

    def send(self, message: Mapping[str, object]) -> None:
        """Never blocks; the message may be lost."""

    def close(self) -> None:
        """Hang up."""


@dataclass(frozen=True, slots=True)
class Live:
    """The last report of a cluster's scheduler. ``at``: seconds since the epoch."""

    connected: bool = False
    at: float = 0.0
    workers: int = 0
    threads: int = 0
    clients: int = 0
    tasks: Mapping[str, int] = field(default_factory=dict)
    memory: int = 0
    memory_limit: int = 0
    cpu: float = 0.0
    scheduler_cpu: float = 0.0
    scheduler_memory: int = 0
    idle: float = 0.0
    target: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A retire request that waits for its answer."""

    id: int
    at: float
    count: int
    candidates: tuple[tuple[int, int], ...]


@dataclass(slots=True, eq=False)
class Entry:
    """See the module. Times are of the steady clock."""

    cluster: Cluster
    lifetime_ends: float | None = None
    rows: dict[int, Tracked] = field(default_factory=dict)
    closed: dict[int, BatchRow] = field(default_factory=dict)
    next_sequence: int = 0
    link: Link | None = None
    linked_at: float = NEVER
    heard_at: float = NEVER
    live: Live | None = None
    target: int | None = None
    idle_since: float | None = None
    no_client_since: float | None = None
    grace_ends: float = NEVER
    health: dict[str, Health] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)
    exit_reports: dict[tuple[int, int], ExitReport] = field(default_factory=dict)
    retired: dict[int, set[int]] = field(default_factory=dict)
    failed_job: int | None = None
    lives: dict[str, Lifetime | None] = field(default_factory=dict)
    pressed: dict[str, Pressed] = field(default_factory=dict)
    planned: dict[str, int] = field(default_factory=dict)
    targets: list[tuple[float, int]] = field(default_factory=list)
    waits: dict[str, Said] = field(default_factory=dict)
    told: dict[str, tuple[str, float]] = field(default_factory=dict)
    revived: set[str] = field(default_factory=set)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiters: set[asyncio.Future[None]] = field(default_factory=set)

    def scheduler(self) -> Tracked | None:
        """The open row of the scheduler, if there is one."""
        for tracked in self.rows.values():
            if tracked.row.group == SCHEDULER:
                return tracked
        return None

    def current(self) -> dict[str, int]:
        """How many jobs each group has or will have, those not counted that are leaving."""
        counts: dict[str, int] = {}
        for tracked in self.rows.values():
            row = tracked.row
            number = len(row.wanted) - len(row.wanted & tracked.leaving.keys())
            counts[row.group] = counts.get(row.group, 0) + number
        return counts

    def leaving(self) -> dict[str, int]:
        """How many workers of each group leave soon, because their time is nearly over."""
        counts: dict[str, int] = {}
        for tracked in self.rows.values():
            if tracked.leaving:
                row = tracked.row
                number = len(row.wanted & tracked.leaving.keys())
                counts[row.group] = counts.get(row.group, 0) + number
        return counts

    def load(self, backend: str) -> Load:
        """What waits and what there is of this cluster in a backend, or is about to be."""
        waiting = alive = self.planned.get(backend, 0)
        for tracked in self.rows.values():
            if tracked.row.backend == backend and not isinstance(tracked.outcome, NOT_TAKEN):
                wanted = tracked.row.wanted
                alive += len(wanted)
                waiting += len(wanted) - len(wanted & tracked.ran.keys())
        return Load(waiting, alive)

    def find(self, job: str) -> tuple[BatchRow | None, int]:
        """The row and index of a job's name (s0-0, w3-4); no row when there never was such a job."""
        parsed = parse_worker_name("w" + job[1:]) if job[:1] in ("s", "w") else None
        sequence, index = parsed or (-1, -1)
        tracked = self.rows.get(sequence)
        row = tracked.row if tracked else self.closed.get(sequence)
        if row is None or index >= row.count or (row.group == SCHEDULER) != job.startswith("s"):
            return None, index
        return row, index

    def register(self, sequence: int, index: int) -> Tracked | None:
        """The scheduler has this worker; None when no row of ours knows it."""
        tracked = self.rows.get(sequence)
        if tracked is None or tracked.row.group == SCHEDULER or index >= tracked.row.count:
            return None
        tracked.accepted = True
        tracked.registered.add(index)
        tracked.served.add(index)
        return tracked

    def close_row(self, row: BatchRow) -> None:
        """Move a row out of the way, keeping no more of them than their logs are worth."""
        self.rows.pop(row.sequence, None)
        self.retired.pop(row.sequence, None)
        self.closed[row.sequence] = row
        while len(self.closed) > MAX_CLOSED:
            del self.closed[next(iter(self.closed))]

    def drop_reports(self, row: BatchRow) -> None:
        """Forget exit reports that nobody will ask for any more."""
        for index in range(row.count if self.exit_reports else 0):
            self.exit_reports.pop((row.sequence, index), None)

    def forget(self) -> None:
        """Drop what only a living cluster needs."""
        self.link = self.live = None
        self.health.clear()
        self.asked.clear()
        self.retired.clear()
        self.exit_reports.clear()
        self.told.clear()
        self.lives.clear()
        self.pressed.clear()
        self.targets.clear()
        self.waits.clear()

    async def change(self, timeout: float) -> None:
        """Return when the cluster's status may have changed, or after ``timeout`` seconds."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.add(waiter)
        try:
            await asyncio.wait_for(waiter, timeout)
        except asyncio.TimeoutError:
            return
        finally:
            self.waiters.discard(waiter)

    def changed(self) -> None:
        """Let everybody who waits for a change of status look again."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.waiters.clear()
