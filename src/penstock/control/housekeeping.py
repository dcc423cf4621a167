"""Forget what ended long ago: first from memory, much later from store and backends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from penstock.backends.base import Backend
from penstock.control.registry import Registry
from penstock.control.tails import Tails
from penstock.model.errors import PenstockError

log = structlog.get_logger()


async def forget_old(
    registry: Registry,
    backends: Mapping[str, Backend],
    tails: Tails,
    *,
    remember: float,
    retention: float,
) -> None:
    """Clusters that ended ``remember`` seconds ago leave the memory, after ``retention`` all."""
    now = registry.clock()
    for name, entry in list(registry.entries.items()):
        ended = entry.cluster.stopped_at
        if entry.cluster.status.final and ended is not None and ended < now - remember:
            del registry.entries[name]
    try:
        purged = await registry.store.purge(before=now - retention)
    except PenstockError as error:
        log.warning("old clusters not forgotten", error=str(error))
        return
    for name in purged:
        registry.entries.pop(name, None)
        await asyncio.to_thread(tails.forget, name)
        for backend in backends.values():
            await _forget(backend, name)


async def _forget(backend: Backend, cluster: str) -> None:
    try:
        await backend.forget(cluster)
    except Exception as error:
        log.warning("files not deleted", backend=backend.name, cluster=cluster, error=str(error))
