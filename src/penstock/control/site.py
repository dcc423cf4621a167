"""One backend as the core sees it: the last look, its troubles, and what it was told to end.

One loop a backend looks at all of its jobs at once; ten thousand workers cost one question a
period, not ten thousand. A look that fails changes nothing: no cluster fails because a batch
system's status command did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable

import structlog

from penstock.backends.base import Backend
from penstock.backends.insight import Selective
from penstock.control.facts import NEVER, Jobs, Look
from penstock.model.cluster import Cluster
from penstock.model.ids import BatchId
from penstock.model.job import Job, Snapshot

LOOK_LIMIT = 120.0
"""Seconds after which a look without an answer counts as failed."""

CANCEL_LIMIT = 120.0

RECANCEL = 30.0
"""Seconds after which a job that is still there is told to end again."""

MAX_BACKOFF = 60.0

ASK_AGAIN = 2.0
"""Seconds until a backend is asked again whether it can submit for a cluster."""

SUBMITS = 8
"""Submissions to one backend at a time."""

_SLICE = 4000
"""Jobs of a look that are sorted in at one go, so that nothing else waits long."""

_NOTHING: Jobs = {}

log = structlog.get_logger()


class Site:
    """One backend with its observe loop. ``woken`` are told which clusters a look concerns."""

    def __init__(
        self,
        backend: Backend,
        gateway: str,
        *,
        clock: Callable[[], float],
        find: Callable[[str], Cluster | None],
        wake: Callable[[str], None],
    ) -> None:
        self.backend = backend
        self.name = backend.name
        self.look = Look()
        self.jobs: dict[str, dict[int, dict[int, Job]]] = {}
        self.awaiting: set[str] = set()
        self.looked = asyncio.Event()
        self.slots = asyncio.Semaphore(SUBMITS)
        self.hold_until = NEVER
        self.trouble = ""
        self._absent: dict[str, tuple[float, int]] = {}
        self._refusals = 0
        self._failures = 0
        self._gateway = gateway
        self._clock = clock
        self._find = find
        self._wake = wake
        self._poked = asyncio.Event()
        self._to_end: dict[tuple[BatchId, int, str], Job] = {}
        self._told: dict[tuple[BatchId, int, str], float] = {}
        self._cancels = asyncio.Event()
        self._strangers: set[tuple[BatchId, str]] = set()

    def jobs_of(self, cluster: str) -> Jobs:
        """What the last look showed of a cluster."""
        return self.jobs.get(cluster, _NOTHING)

    @property
    def excuse(self) -> str:
        """Why nothing is submitted now, empty when it is."""
        if not self.trouble:
            return ""
        return f"{self.name} is not available, will try again: {self.trouble}"

    def poke(self) -> None:
        """Look soon, not only at the end of the period."""
        self._poked.set()

    # -- submissions --

    def refused(self, now: float, trouble: str) -> float:
        """The backend is not available: nobody submits until the returned time."""
        if now >= self.hold_until:
            self._refusals += 1
            delay = min(MAX_BACKOFF, 2.0 ** min(self._refusals, 10))
            self.hold_until = now + delay
        self.trouble = trouble
        return self.hold_until

    def absent(self, cluster: str, now: float) -> None:
        """Nobody could submit for this cluster: it alone waits, longer each time."""
        tries = self._absent.get(cluster, (NEVER, 0))[1] + 1
        if len(self._absent) > 10_000:  # of clusters that are over long since
            self._absent.clear()
        self._absent[cluster] = now + min(MAX_BACKOFF, 2.0 ** min(tries, 10)), tries

    def present(self, cluster: str) -> None:
        """A submission for this cluster was taken."""
        self._absent.pop(cluster, None)

    def refuses(self, cluster: str) -> str:
        """Why nothing can be submitted for a cluster now, empty when it can."""
        return self.backend.refuses(cluster) if isinstance(self.backend, Selective) else ""

    def holds(self, cluster: str) -> float:
        """Before when nothing is submitted for a cluster."""
        until = max(self.hold_until, self._absent.get(cluster, (NEVER, 0))[0])
        return max(until, _now() + ASK_AGAIN) if self.refuses(cluster) else until

    def answered(self) -> None:
        """The backend took or refused a submission: it is there."""
        self._refusals = 0
        self.hold_until = NEVER
        self.trouble = ""

    # -- looks --

    async def observing(self) -> None:
        """Look for ever: once a period, and sooner when something may have changed."""
        period = self.backend.capabilities.period
        while True:
            began = _now()
            try:
                await self.look_once()
            except Exception:
                log.exception("look not understood", backend=self.name)
            pause = period
            if self._failures:
                pause = min(MAX_BACKOFF, period * 2.0 ** min(self._failures - 1, 6))
                await asyncio.sleep(pause)
                continue
            await self._poked_within(began + pause - _now())
            await asyncio.sleep(max(0.0, began + period / 5 - _now()))

    async def hints(self) -> None:
        """Turn the backend's own hints into pokes; without them the period alone rules."""
        while True:
            try:
                async for _ in self.backend.changes():
                    self.poke()
            except Exception as error:
                log.warning("no change hints", backend=self.name, error=str(error))
            await asyncio.sleep(MAX_BACKOFF)

    async def look_once(self) -> None:
        """One look: sort the jobs by cluster, and wake those of which something is new."""
        self._poked.clear()
        before = _now()
        try:
            snapshot = await asyncio.wait_for(self.backend.observe(), LOOK_LIMIT)
        except Exception as error:
            self._failures += 1
            if self._failures in (1, 10) or self._failures % 100 == 0:
                log.warning(
                    "look failed", backend=self.name, error=str(error), times=self._failures
                )
            return
        if self._failures:
            log.info("looks succeed again", backend=self.name, failed=self._failures)
        self._failures = 0
        # A backend may answer from a cache: its own word on when the look began counts, as an age.
        age = max(0.0, self._clock() - snapshot.started)
        look = Look(min(before, _now() - age), snapshot.complete, snapshot.unsure)
        await self._take(snapshot, look)

    async def _take(self, snapshot: Snapshot, look: Look) -> None:
        jobs = await self._sort(snapshot)
        unsure = self.jobs.keys() & look.unsure if look.complete else self.jobs.keys()
        _keep_missing(jobs, {cluster: self.jobs[cluster] for cluster in unsure})
        changed = set(self.awaiting)
        for number, name in enumerate(jobs.keys() | self.jobs.keys()):
            if name not in changed and jobs.get(name) != self.jobs.get(name):
                changed.add(name)
            if number % 50 == 49:
                await asyncio.sleep(0)
        self.jobs, self.look = jobs, look
        horizon = _now() - RECANCEL
        self._told = {key: at for key, at in self._told.items() if at > horizon}
        for name in sorted(changed):
            self._wake(name)
        self.looked.set()

    async def _sort(self, snapshot: Snapshot) -> dict[str, dict[int, dict[int, Job]]]:
        """Jobs by cluster, sequence and index; orphans are told to end on the way."""
        jobs: dict[str, dict[int, dict[int, Job]]] = {}
        batch: BatchId | None = None
        owner: str | None = None
        into: dict[int, Job] = {}
        for number, job in enumerate(snapshot.jobs):
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            if job.batch is not batch:
                batch = job.batch
                cluster = self._find(batch.cluster) if batch.gateway == self._gateway else None
                owner = cluster.owner if cluster else None
                if cluster:
                    into = jobs.setdefault(batch.cluster, {}).setdefault(batch.sequence, {})
            if owner is None:
                self._orphan(job)
            elif not ours(job, owner):
                self._stranger(job)
            elif job.index not in into or job.alive:
                into[job.index] = job
        return jobs

    def _orphan(self, job: Job) -> None:
        """A job under our gateway's name of a cluster that nobody knows: rule 1 ends it."""
        if job.batch.gateway == self._gateway and job.alive:
            self.cancel([job])

    def _stranger(self, job: Job) -> None:
        """Another user's job under a cluster's tag: forged, so it neither counts nor is touched."""
        key = (job.batch, job.owner)
        if key not in self._strangers and len(self._strangers) < 10_000:
            self._strangers.add(key)
            log.warning("forged tag", backend=self.name, tag=job.batch.tag, owner=job.owner)

    async def _poked_within(self, seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._poked.set)
        try:
            await self._poked.wait()
        finally:
            timer.cancel()

    # -- cancels --

    def cancel(self, jobs: Iterable[Job]) -> None:
        """End these jobs; those that were just told are left alone for a while."""
        now = _now()
        for job in jobs:
            key = (job.batch, job.index, job.native)
            if now - self._told.get(key, NEVER) >= RECANCEL:
                self._told[key] = now
                self._to_end[key] = job
        if self._to_end:
            self._cancels.set()

    async def cancelling(self) -> None:
        """Pass cancels on, as many as have gathered at once."""
        while True:
            await self._cancels.wait()
            self._cancels.clear()
            jobs, self._to_end = list(self._to_end.values()), {}
            if not await self._cancel_now(jobs):
                await asyncio.sleep(self.backend.capabilities.period)
            self.poke()

    async def _cancel_now(self, jobs: Collection[Job]) -> bool:
        try:
            await asyncio.wait_for(self.backend.cancel(jobs), CANCEL_LIMIT)
        except Exception as error:
            log.warning("cancel failed", backend=self.name, jobs=len(jobs), error=str(error))
            for job in jobs:
                self._told.pop((job.batch, job.index, job.native), None)
            return False
        return True


def ours(job: Job, owner: str) -> bool:
    """Whether a job under a cluster's tag is the cluster's: anybody can write a tag."""
    return job.owner == owner


def _keep_missing(
    jobs: dict[str, dict[int, dict[int, Job]]], old: dict[str, dict[int, dict[int, Job]]]
) -> None:
    """What a partial listing does not show is as it was."""
    for cluster, sequences in old.items():
        for sequence, indices in sequences.items():
            into = jobs.setdefault(cluster, {}).setdefault(sequence, {})
            for index, job in indices.items():
                into.setdefault(index, job)


def _now() -> float:
    return asyncio.get_running_loop().time()
