"""A store in memory that outlives the servers that use it, and can fail or die at any write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from penstock.model.cluster import BatchRow, Cluster, Event
from penstock.model.errors import StoreError
from penstock.model.usage import Usage


class MemoryStore:
    """What ``penstock.store.Store`` keeps, as dicts. ``broken``: every write raises its text."""

    def __init__(self) -> None:
        self.table: dict[str, Cluster] = {}
        self.journal: dict[tuple[str, int], BatchRow] = {}
        self.noted: list[Event] = []
        self.used: list[Usage] = []
        self.broken = ""
        self.hook: Callable[[str], None] = lambda what: None
        """Called before and after every write takes effect; may raise."""

    async def gateway_id(self) -> str:
        return "0123abcd"

    async def add_cluster(self, cluster: Cluster) -> None:
        await self._write("cluster", lambda: self.table.__setitem__(cluster.name, cluster))

    async def save_cluster(self, cluster: Cluster) -> None:
        assert cluster.name in self.table
        await self._write("cluster", lambda: self.table.__setitem__(cluster.name, cluster))

    async def clusters(self, *, since: float | None = None) -> list[Cluster]:
        await asyncio.sleep(0)
        return [
            c
            for c in self.table.values()
            if not c.status.final or since is None or (c.stopped_at or 0) > since
        ]

    async def add_row(self, row: BatchRow) -> None:
        key = (row.cluster, row.sequence)
        if key in self.journal:
            raise StoreError(f"batch {key} is there already")
        await self._write("intent", lambda: self.journal.__setitem__(key, row))

    async def save_rows(self, changed: Collection[BatchRow]) -> None:
        new = {(row.cluster, row.sequence): row for row in changed}
        assert new.keys() <= self.journal.keys()
        await self._write("rows", lambda: self.journal.update(new))

    async def rows(self) -> list[BatchRow]:
        await asyncio.sleep(0)
        return [row for row in self.journal.values() if row.cluster in self.table]

    async def add_events(self, events: Collection[Event]) -> None:
        await self._write("events", lambda: self.noted.extend(events))

    async def events(self, cluster: str, *, limit: int = 200) -> list[Event]:
        return [event for event in self.noted if event.cluster == cluster][-limit:]

    async def add_usage(self, lines: Collection[Usage]) -> None:
        await self._write("usage", lambda: self.used.extend(lines))

    async def purge(self, *, before: float) -> list[str]:
        names = [
            name
            for name, c in self.table.items()
            if c.stopped_at is not None and c.stopped_at < before
        ]
        for name in names:
            del self.table[name]
        return names

    async def _write(self, what: str, effect: Callable[[], object]) -> None:
        await asyncio.sleep(0)
        self.hook(f"before {what}")
        if self.broken:
            raise StoreError(self.broken)
        effect()
        self.hook(f"after {what}")
        await asyncio.sleep(0)
