"""What may be asked of the core without changing anything."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection, Mapping

from penstock.backends.base import Backend
from penstock.control.entry import Entry, Live
from penstock.control.jobs import JobLine, job_lines
from penstock.control.output import Outputs
from penstock.control.registry import Registry
from penstock.control.site import Site
from penstock.model.cluster import Cluster, Event, Status
from penstock.model.errors import NotFound

ACTIVE = (Status.PENDING, Status.RUNNING)


class Reading:
    """The half of ``Control`` that answers questions."""

    _registry: Registry
    _backends: Mapping[str, Backend]
    _sites: dict[str, Site]
    _outputs: Outputs
    _clock: Callable[[], float]

    @property
    def backends(self) -> Mapping[str, Backend]:
        """The batch systems by name, for whoever watches them."""
        return self._backends

    def get(self, name: str) -> Cluster | None:
        """The cluster of this name, ended ones too for a day."""
        return self._registry.find(name)

    def list(
        self, *, user: str | None = None, statuses: Collection[Status] | None = None
    ) -> list[Cluster]:
        """Clusters in the order of their making; by default the active ones of all users."""
        statuses = ACTIVE if statuses is None else statuses
        return [
            entry.cluster
            for entry in self._registry
            if entry.cluster.status in statuses and (user is None or entry.cluster.user == user)
        ]

    async def events(self, name: str, limit: int = 200) -> builtins.list[Event]:
        """What happened to a cluster, oldest first. Raises StoreError."""
        await self._registry.flush()
        return await self._registry.store.events(name, limit=limit)

    async def logs(self, name: str, job: str, tail: int) -> str:
        """The last ``tail`` bytes of a job's output; ``job`` is like s0-0 or w3-4.

        Raises NotFound for a job that the cluster never had, Unavailable when the batch system
        does not answer.
        """
        return await self._outputs.logs(self._entry(name), job, tail)

    def jobs(self, name: str) -> builtins.list[JobLine]:
        """The cluster's jobs as the last looks showed them. Raises NotFound."""
        return job_lines(self._entry(name), self._sites, self._clock())

    def live(self, name: str) -> Live | None:
        """The last report of a cluster's scheduler, None when it never reported."""
        entry = self._registry.entries.get(name)
        return entry.live if entry else None

    def _entry(self, name: str) -> Entry:
        entry = self._registry.entries.get(name)
        if entry is None:
            raise NotFound(f"There is no cluster {name}.")
        return entry
