"""The core as the rest of the server sees it: clusters are asked for here, and nothing waits long.

``Control`` puts the parts together and answers the API. Every call writes down a wish and wakes
the cluster; the loop does the rest. Whether a user may touch a cluster is the API's question, not
asked here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from penstock.backends.base import Backend
from penstock.control import situate, words
from penstock.control.channel import parse_address, parse_exit
from penstock.control.credentials import new_credentials
from penstock.control.entry import Entry, Link
from penstock.control.execute import Executor
from penstock.control.housekeeping import forget_old
from penstock.control.launch import Launcher
from penstock.control.loop import Reconciler
from penstock.control.output import Outputs
from penstock.control.queue import WakeQueue
from penstock.control.quota import initial_scaling
from penstock.control.reading import Reading
from penstock.control.registry import Registry, StoreLike
from penstock.control.sessions import OnRoute, Sessions
from penstock.control.site import Site
from penstock.control.tails import Tails
from penstock.control.tasks import end_tasks
from penstock.control.wishes import Wishes
from penstock.model.cluster import Cluster, ClusterSpec, Status
from penstock.model.errors import Invalid
from penstock.model.ids import new_cluster_name

REMEMBER = 24 * 3600.0
"""Seconds that an ended cluster stays in memory, so in lists."""

ROUNDS = 16
"""Clusters that are worked on at a time; each may wait for the store."""


class Control(Reading):
    """Clusters on demand. Construct, ``start``, use, ``aclose``.

    ``servers``: URLs that jobs reach this server at. ``agent_source``: the agent's file. ``ca``:
    PEM that jobs need for https. ``door``: the front door as workers reach it. ``on_route``: told
    a scheduler's (host, port) once it is known, and None when the cluster is over. ``retention``:
    seconds that ended clusters are kept in the store. ``period``: seconds between the reports of a
    scheduler. ``tails``: where the last output of jobs is kept, None for nowhere.
    """

    def __init__(
        self,
        store: StoreLike,
        backends: Mapping[str, Backend],
        *,
        servers: Sequence[str],
        agent_source: bytes,
        ca: str | None = None,
        door: str | None = None,
        on_route: OnRoute = lambda name, address: None,
        clock: Callable[[], float] = time.time,
        retention: float = 30 * 86400.0,
        period: float = 5.0,
        tails: Path | None = None,
    ) -> None:
        self._registry = Registry(store, clock)
        self._backends = backends
        self._servers = servers
        self._agent_source = agent_source
        self._ca, self._door = ca, door
        self._on_route = on_route
        self._clock = clock
        self._retention = retention
        self._period = period
        self._tails = Tails(tails)
        self._queue = WakeQueue()
        self._wishes = Wishes(self._registry, self._queue)
        self._sites: dict[str, Site] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Read what is written, and begin to look and to act. Raises StoreError."""
        self._gateway = await self._registry.store.gateway_id()
        await self._registry.load(keep=REMEMBER)
        find, wake = self._registry.find, self._queue.wake
        for name, backend in self._backends.items():
            site = Site(backend, self._gateway, clock=self._clock, find=find, wake=wake)
            self._sites[name] = site
        self._outputs = Outputs(self._sites, self._gateway, self._tails)
        launcher = Launcher(self._gateway, self._servers, self._agent_source, self._ca, self._door)
        self._executor = Executor(self._registry, self._sites, launcher, wake)
        self._reconciler = Reconciler(
            self._registry, self._sites, self._executor, self._queue, self._drop_route
        )
        self._sessions = Sessions(
            self._registry,
            self._queue,
            self._reconciler,
            self._executor.obituaries,
            self._on_route,
            self._period,
        )
        for entry in self._registry:
            if not entry.cluster.status.final:
                self._restore(entry)
        for site in self._sites.values():
            self._run(site.observing(), site.hints(), site.cancelling())
        self._run(*(self._reconciler.working() for _ in range(ROUNDS)), self._forgetting())

    async def ready(self) -> None:
        """Return once every backend was looked at since the start, and all was acted upon."""
        for site in self._sites.values():
            await site.looked.wait()
        await self._queue.idle()

    async def aclose(self) -> None:
        """Stop acting; jobs go on. Submissions under way get a moment to be written down."""
        if self._tasks and self._executor.submitting:
            await asyncio.wait(self._executor.submitting, timeout=5.0)
        self._queue.close()
        if self._tasks:
            await end_tasks(self._tasks | self._executor.submitting)
        self._tasks.clear()
        for entry in self._registry:
            entry.changed()
        if self._sites:
            await self._registry.close()

    # -- what the API asks --

    async def create(
        self, *, user: str, owner: str, spec: ClusterSpec, options: Mapping[str, object]
    ) -> Cluster:
        """A new cluster for ``user``, whose jobs run as ``owner``. Raises StoreError."""
        for group in (spec.scheduler, *spec.workers.values()):
            if group.backend not in self._sites:
                raise Invalid(f"profile {spec.profile}: there is no backend {group.backend!r}.")
        name = new_cluster_name()
        secrets = new_credentials(name)
        cluster = Cluster(
            name=name,
            user=user,
            owner=owner,
            spec=spec,
            options=options,
            token=secrets.token,
            tls_cert=secrets.cert,
            tls_key=secrets.key,
            created_at=self._clock(),
        )
        cluster = replace(cluster, scaling=initial_scaling(cluster))
        # Shielded: a client that hangs up now must not leave a cluster only half taken in.
        await asyncio.shield(asyncio.ensure_future(self._registry.add(cluster)))
        self._registry.note(cluster, "created", words.created(cluster))
        self._queue.wake(name)
        return cluster

    async def wait(self, name: str, timeout: float) -> Cluster | None:
        """Long poll: the cluster once it runs or has ended, or as it is after ``timeout`` s."""
        deadline = _now() + timeout
        while True:
            entry = self._registry.entries.get(name)
            if entry is None or entry.cluster.status not in (Status.PENDING, Status.STOPPING):
                return entry.cluster if entry else None
            left = deadline - _now()
            if left <= 0 or not self._tasks:
                return entry.cluster
            await entry.change(left)

    async def scale(
        self, name: str, count: int, group: str | None = None
    ) -> tuple[int, str | None]:
        """Wish for ``count`` workers, and no adapting. Returns what is granted, and why if less.

        Raises NotFound, Conflict for a cluster that is not active, Invalid for a wrong count.
        """
        return await self._wishes.scale(self._entry(name), count, group)

    async def adapt(
        self,
        name: str,
        *,
        active: bool,
        minimum: int | None = None,
        maximum: int | None = None,
        group: str | None = None,
    ) -> str | None:
        """Let the number of workers follow the load, or keep it where it is now.

        Returns a sentence when a limit is lower than ``maximum``. Raises as ``scale`` does.
        """
        entry = self._entry(name)
        if not active:
            return await self._wishes.stay(entry, group)
        return await self._wishes.adapt(entry, minimum or 0, maximum, group)

    async def stop(self, name: str, reason: str) -> None:
        """Bring a cluster down. Idempotent. Raises NotFound."""
        await self._reconciler.stop(self._entry(name), reason)

    async def stop_all(self, reason: str) -> None:
        """Bring all clusters down; returns when nothing of them runs any more.

        Clusters on backends that are not configured any more cannot be, and are not waited for.
        """
        within = [e for e in self._registry if not situate.missing(e, self._sites)]
        for entry in within:
            await self._reconciler.stop(entry, reason)
        for entry in within:
            while not entry.cluster.status.final and self._tasks:
                await entry.change(60.0)

    # -- what the channel brings --

    async def connected(self, name: str, hello: Mapping[str, Any], link: Link) -> dict[str, Any]:
        """A scheduler's agent is here; returns the welcome. Raises NotFound, Invalid, Conflict."""
        return await self._sessions.connected(self._entry(name), hello, link)

    async def message(self, name: str, link: Link, message: Mapping[str, Any]) -> None:
        """A frame of a connected agent. Raises Invalid when it is malformed."""
        entry = self._entry(name)
        if message.get("op") == "output":
            self._outputs.answered(link, message)
        else:
            await self._sessions.message(entry, link, message)

    async def disconnected(self, name: str, link: Link) -> None:
        """A channel is gone."""
        entry = self._registry.entries.get(name)
        if entry is not None:
            self._sessions.disconnected(entry, link)

    async def exited(self, name: str, report: Mapping[str, Any]) -> None:
        """A job's process died and its agent says how. Raises NotFound, Invalid."""
        entry, said = self._entry(name), parse_exit(report)
        await self._outputs.keep(entry, said)
        if not said.last_words:
            await self._sessions.exited(entry, said)

    # -- within --

    async def _forgetting(self) -> None:
        while True:
            await asyncio.sleep(3600.0)
            await forget_old(
                self._registry,
                self._backends,
                self._tails,
                remember=REMEMBER,
                retention=self._retention,
            )

    def _restore(self, entry: Entry) -> None:
        cluster = entry.cluster
        if cluster.status is Status.RUNNING and cluster.scheduler_address:
            self._on_route(cluster.name, parse_address(cluster.scheduler_address))
        self._queue.wake(cluster.name)

    def _run(self, *jobs: Coroutine[Any, Any, None]) -> None:
        self._tasks |= {asyncio.ensure_future(job) for job in jobs}

    def _drop_route(self, name: str) -> None:
        self._on_route(name, None)


def _now() -> float:
    return asyncio.get_running_loop().time()
