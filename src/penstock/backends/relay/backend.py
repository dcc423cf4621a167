"""The five verbs, carried out in users' notebooks.

At some facilities the gateway may not submit jobs for users: they hold the credentials, in their
notebooks. There the server plans, writes its journal and judges as for every cluster, and only
*lends itself* the hands of a notebook: a connection that the cluster's user opened, over which a
real backend's ``submit``, ``observe``, ``cancel`` and ``logs`` are called. Why does not the notebook
plan by itself? Then nobody would know what was submitted once its kernel is gone.

A notebook may be away at any time. So all that is known of its jobs is kept as it was, the cluster
is named in ``Snapshot.unsure``, and a submission is refused for that cluster alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path

import structlog

from penstock.backends.base import Capabilities
from penstock.backends.relay.holder import Holder
from penstock.backends.relay.ledger import UNKNOWN, Ledger, Place
from penstock.backends.relay.memory import Memory
from penstock.backends.relay.wire import encode_batch, handle_of, parse_look, parse_text
from penstock.model.errors import Absent, BackendError, Invalid, Unavailable
from penstock.model.job import Batch, Job, Snapshot

PATIENCE = 2.0
"""Seconds that one slow notebook may hold up the look at all others."""

NOBODY = (
    "no notebook is connected to this cluster that could submit workers; "
    "connect one with HTCGateway().connect(...)"
)

log = structlog.get_logger("penstock.notebook")


class RelayBackend:
    """The backend of type ``notebook``; see ``penstock.backends.base.Backend`` for the verbs.

    ``gateway``: whose jobs these are. ``file``: where it remembers which clusters had a notebook.
    ``timeout``: seconds that a notebook may take to answer. ``grace``: seconds for which a notebook
    may be away. ``wall`` and ``clock``: seconds since the epoch, and of a steady clock.
    """

    def __init__(
        self,
        name: str,
        gateway: str,
        file: Path,
        *,
        period: float = 5.0,
        timeout: float = 90.0,
        visibility: float = 30.0,
        grace: float = 300.0,
        max_batch: int = 500,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(max_batch, visibility, period)
        self.grace = grace
        self.gateway = gateway
        self._timeout = timeout
        self._wall = wall
        self._clock = clock
        self._changed = asyncio.Event()
        self._memory = Memory(file)
        self._ledgers: dict[str, Ledger] = {}
        now = clock()
        for cluster, kept in self._memory.items().items():
            ledger = self._ledgers[cluster] = Ledger(kept=kept, left_at=now)
            ledger.places[UNKNOWN] = Place(UNKNOWN, now)

    # -- the verbs --

    async def submit(self, batch: Batch) -> None:
        """Let the cluster's notebook submit. Raises Absent when there is none, or it cannot."""
        ledger = self._ledgers.get(batch.id.cluster)
        holder = ledger.active if ledger else None
        if holder is None:
            raise Absent(NOBODY)
        try:
            await holder.ask(encode_batch(batch), self._timeout)
        except (Unavailable, Absent) as error:
            # One notebook's trouble is not the others': the backend as a whole is there.
            raise Absent(f"{holder.who} could not submit, will try again: {error}") from None

    async def observe(self) -> Snapshot:
        """Ask all notebooks at once; those that do not answer soon are unsure, or as they were."""
        started = self._wall()
        looks = set()
        for cluster, ledger in self._ledgers.items():
            for place in ledger.places.values():
                if place.holders and place.looking is None:
                    place.looking = asyncio.ensure_future(self._look(cluster, ledger, place))
                if place.looking is not None:
                    looks.add(place.looking)
        if looks:
            await asyncio.wait(looks, timeout=PATIENCE)
        return self._snapshot(started)

    async def cancel(self, jobs: Collection[Job]) -> None:
        """Note that these shall end, and tell the notebooks; those that are away, when they are back."""
        told: dict[tuple[str, str], Place] = {}
        for cluster, theirs in _by_cluster(jobs).items():
            ledger = self._ledgers.get(cluster)
            for job, place in ledger.places_of(theirs) if ledger else ():
                place.to_end[job.batch.sequence, job.index, job.native] = job
                told[cluster, place.name] = place
        for place in told.values():
            self._end_soon(place)

    async def changes(self) -> AsyncIterator[None]:
        """Yields when a notebook comes, goes, or says that something is new."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            yield

    async def logs(self, job: Job, *, tail: int) -> str:
        """The end of a job's output, as its notebook reads it. Raises Unavailable without one."""
        ledger = self._ledgers.get(job.batch.cluster)
        if ledger is None:
            return ""
        place = next((p for _, p in ledger.places_of([job])), None)
        if place is None or not place.holders:
            raise Unavailable("no notebook is connected to this cluster that could read it")
        question = {"op": "logs", "job": handle_of(job), "tail": tail}
        return parse_text(await place.holders[-1].ask(question, self._timeout))[-tail:]

    async def forget(self, cluster: str) -> None:
        """Let a notebook that is there delete what it keeps. Raises Unavailable when it cannot."""
        ledger = self._ledgers.get(cluster)
        if ledger is not None and ledger.active is not None:
            await ledger.active.ask({"op": "forget"}, self._timeout)
        self.over(cluster, "the gateway has forgotten it")

    async def aclose(self) -> None:
        """Jobs and notebooks go on; the notebooks come back to the next server."""
        places = [place for ledger in self._ledgers.values() for place in ledger.places.values()]
        work = [task for place in places for task in (place.looking, place.ending) if task]
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)

    def refuses(self, cluster: str) -> str:
        """Why nothing can be submitted for a cluster now; see ``insight.Selective``."""
        ledger = self._ledgers.get(cluster)
        return "" if ledger and ledger.active else NOBODY

    # -- notebooks --

    def attach(self, cluster: str, owner: str, holder: Holder) -> None:
        """A notebook of the cluster's user is here, and submits from now on."""
        ledger = self._ledgers.setdefault(cluster, Ledger())
        ledger.owner = owner
        self._memory.note(cluster, kept=False)
        before = ledger.attach(holder, self._clock())
        if before is not None and (before.who, before.place) != (holder.who, holder.place):
            before.send({"op": "standby", "by": holder.who})
            holder.send({"op": "active", "from": before.who})
        log.info("notebook connected", cluster=cluster, who=holder.who, place=holder.place)
        self._changed.set()

    def detach(
        self, cluster: str, holder: Holder, *, keep: bool = False, cleared: bool = False
    ) -> None:
        """A notebook is gone; see ``Ledger.detach``."""
        holder.gone()
        ledger = self._ledgers.get(cluster)
        if ledger is None:
            return
        after = ledger.detach(holder, self._clock(), keep=keep, cleared=cleared)
        if after is not None:
            after.send({"op": "active", "from": ""})
        if ledger.kept:
            self._memory.note(cluster, kept=True)
        log.info("notebook gone", cluster=cluster, who=holder.who, keep=keep, cleared=cleared)
        self._changed.set()

    def changed(self) -> None:
        """A notebook says that something is new."""
        self._changed.set()

    # -- clusters --

    @property
    def clusters(self) -> list[str]:
        """All clusters that have, or had, a notebook."""
        return list(self._ledgers)

    def others(self, cluster: str, holder: Holder) -> bool:
        """Whether notebooks besides this one are connected for a cluster."""
        ledger = self._ledgers.get(cluster)
        return ledger is not None and any(other is not holder for other in ledger.order)

    def away(self, cluster: str) -> float:
        """For how many seconds a cluster has lacked its notebook; 0 when nothing is wrong."""
        ledger = self._ledgers.get(cluster)
        return (ledger.away(self._clock()) if ledger else None) or 0.0

    def ending(self, cluster: str) -> None:
        """The cluster is being stopped: it does not wait long for who is away."""
        ledger = self._ledgers.get(cluster)
        if ledger is not None and ledger.ending_since is None:
            ledger.ending_since = self._clock()

    def over(self, cluster: str, reason: str) -> None:
        """The cluster has ended, or nobody knows it: its notebooks end what is left, and go."""
        ledger = self._ledgers.pop(cluster, None)
        self._memory.drop(cluster)
        for holder in ledger.order if ledger else ():
            holder.send({"op": "over", "reason": reason})

    # -- within --

    async def _look(self, cluster: str, ledger: Ledger, place: Place) -> None:
        asked, holder = self._wall(), place.holders[-1]
        try:
            answer = await holder.ask({"op": "observe"}, self._timeout)
            looked = parse_look(answer, self.gateway, cluster, ledger.owner, self._wall())
        except (BackendError, Invalid) as error:
            log.info("notebook not looked at", cluster=cluster, who=holder.who, error=str(error))
            return
        finally:
            place.looking = None
        place.jobs, place.complete, place.asked = looked.jobs, looked.complete, asked
        if place.to_end:
            seen = {(j.batch.sequence, j.index, j.native) for j in looked.jobs if j.alive}
            place.to_end = {key: job for key, job in place.to_end.items() if key in seen}
            self._end_soon(place)

    def _end_soon(self, place: Place) -> None:
        """Tell a place's notebook what shall end, without waiting: it may be slow, or away."""
        if place.to_end and place.holders and place.ending is None:
            place.ending = asyncio.ensure_future(self._end(place))

    async def _end(self, place: Place) -> None:
        holder, jobs = place.holders[-1], dict(place.to_end)
        question = {"op": "cancel", "jobs": [handle_of(job) for job in jobs.values()]}
        try:
            await holder.ask(question, self._timeout)
        except BackendError as error:  # the next look tells it again
            log.info("cancel not done", who=holder.who, jobs=len(jobs), error=str(error))
            return
        finally:
            place.ending = None
        for key in jobs:
            place.to_end.pop(key, None)
        self._end_soon(place)

    def _snapshot(self, started: float) -> Snapshot:
        now, wall = self._clock(), self._wall()
        jobs: list[Job] = []
        unsure: set[str] = set()
        for cluster, ledger in self._ledgers.items():
            ledger.forget_lost(now, self.grace)
            for place in ledger.places.values():
                jobs += place.jobs
                if place.sure(wall) and place.asked is not None:
                    started = min(started, place.asked)
            if ledger.unsure(wall):
                unsure.add(cluster)
        return Snapshot(started, True, tuple(jobs), frozenset(unsure))


def _by_cluster(jobs: Collection[Job]) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.batch.cluster, []).append(job)
    return found
