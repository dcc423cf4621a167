"""All clusters that this process knows, the one way to change a record, and what users read.

A change is written before it shows: ``update`` saves the changed record and only then puts it
into memory, so that no answer promises what a crash would take back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from typing import Protocol

import structlog

from penstock.control.entry import Entry
from penstock.control.facts import NEVER, Tracked
from penstock.model.cluster import BatchRow, Cluster, Event, RowState
from penstock.model.errors import StoreError
from penstock.model.usage import Usage

MAX_PENDING_EVENTS = 10_000

REPEAT = 60.0
"""Seconds between two events that say the same kind of thing about a cluster's state."""

log = structlog.get_logger()


class StoreLike(Protocol):
    """What the core needs of the database; ``penstock.store.Store`` has it."""

    async def gateway_id(self) -> str: ...
    async def add_cluster(self, cluster: Cluster) -> None: ...
    async def save_cluster(self, cluster: Cluster) -> None: ...
    async def clusters(self, *, since: float | None = None) -> list[Cluster]: ...
    async def add_row(self, row: BatchRow) -> None: ...
    async def save_rows(self, changed: Collection[BatchRow]) -> None: ...
    async def rows(self) -> list[BatchRow]: ...
    async def add_events(self, events: Collection[Event]) -> None: ...
    async def events(self, cluster: str, *, limit: int = 200) -> list[Event]: ...
    async def add_usage(self, lines: Collection[Usage]) -> None: ...
    async def purge(self, *, before: float) -> list[str]: ...


class Registry:
    """Clusters by name. ``clock``: seconds since the epoch."""

    def __init__(self, store: StoreLike, clock: Callable[[], float]) -> None:
        self.store = store
        self.clock = clock
        self.entries: dict[str, Entry] = {}
        self._events: list[Event] = []
        self._flushing = asyncio.Lock()

    def find(self, name: str) -> Cluster | None:
        """The cluster of this name."""
        entry = self.entries.get(name)
        return entry.cluster if entry else None

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    async def load(self, *, keep: float) -> None:
        """Read all clusters but those that ended more than ``keep`` seconds ago."""
        now, steady = self.clock(), asyncio.get_running_loop().time()
        for cluster in await self.store.clusters(since=now - keep):
            entry = Entry(cluster)
            lifetime = cluster.spec.limits.max_lifetime
            if lifetime is not None:
                # Never more than all of it, also by a clock that was set back.
                left = min(lifetime, cluster.created_at + lifetime - now)
                entry.lifetime_ends = steady + max(0.0, left)
            self.entries[cluster.name] = entry
        for row in await self.store.rows():
            known = self.entries.get(row.cluster)
            if known is None:
                continue
            known.next_sequence = max(known.next_sequence, row.sequence + 1)
            if row.state is RowState.CLOSED:
                known.close_row(row)
            else:
                # Whatever submit was under way, this process's start has cut it off by now.
                known.rows[row.sequence] = Tracked(row, settled_at=steady)

    async def add(self, cluster: Cluster) -> Entry:
        """Write a new cluster down and take it in."""
        await self.store.add_cluster(cluster)
        entry = Entry(cluster)
        lifetime = cluster.spec.limits.max_lifetime
        if lifetime is not None:
            entry.lifetime_ends = asyncio.get_running_loop().time() + lifetime
        self.entries[cluster.name] = entry
        return entry

    async def update(self, entry: Entry, change: Callable[[Cluster], Cluster]) -> Cluster:
        """Change a cluster's record, durably, one change after the other.

        Whoever asked may go away meanwhile: the change is completed all the same.
        """
        work = asyncio.ensure_future(self._update(entry, change))
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(work)

    async def _update(self, entry: Entry, change: Callable[[Cluster], Cluster]) -> Cluster:
        async with entry.lock:
            before = entry.cluster
            after = change(before)
            if after is not before:
                await self.store.save_cluster(after)
                entry.cluster = after
        if after.status is not before.status:
            entry.changed()
        return after

    def note(self, cluster: Cluster, kind: str, text: str) -> None:
        """Record an event for the user, and the same line in the log."""
        log.info(kind, cluster=cluster.name, user=cluster.user, text=text)
        self._events.append(Event(cluster.name, self.clock(), kind, text))
        del self._events[:-MAX_PENDING_EVENTS]

    def note_once(self, entry: Entry, kind: str, text: str) -> None:
        """Record what may be noticed again and again: news at once, the rest not at all.

        Words that change all the time are news only once a minute.
        """
        if text:
            self.note_changed(entry, kind, text, text)

    def note_changed(self, entry: Entry, kind: str, key: str, text: str) -> None:
        """As ``note_once`` where only ``key`` makes it news, whatever the words are."""
        now = asyncio.get_running_loop().time()
        said, at = entry.told.get(kind, ("", NEVER))
        if key != said and now - at >= REPEAT:
            entry.told[kind] = (key, now)
            self.note(entry.cluster, kind, text)

    async def flush(self) -> None:
        """Write the recorded events; those that cannot be written now stay for the next time."""
        async with self._flushing:
            events, self._events = self._events, []
            if not events:
                return
            try:
                await self.store.add_events(events)
            except StoreError:
                self._events = [*events, *self._events][-MAX_PENDING_EVENTS:]
                raise

    async def close(self) -> None:
        """Write the last events, if that can be done."""
        try:
            await self.flush()
        except StoreError as error:
            log.warning("last events not written", error=str(error))
