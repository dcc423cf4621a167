"""What the gateway knows of one cluster's notebooks: who is there, who left, and what they saw.

Jobs are where they were submitted: a *place* is a batch system as one user sees it. A notebook that
comes later and looks at the same place sees the same jobs. One that looks at another place takes
over what is submitted from then on; the jobs of the first are still asked about and ended there,
as long as a notebook of that place is connected, and are kept as they were last seen when none is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from penstock.backends.relay.holder import Holder
from penstock.model.job import Job

LINGER = 10.0
"""Seconds after which jobs of a cluster that ends count as gone when nobody can look for them."""

FRESH = 20.0
"""Seconds after which a look is too old to prove anything."""

UNKNOWN = ""
"""The place of jobs that a notebook submitted before this server started."""


@dataclass(slots=True, eq=False)
class Place:
    """One place. Times are of the steady clock but ``asked``: when the last look that was answered
    was asked for, in seconds since the epoch. ``lost_at``: since when nobody of it is here."""

    name: str
    lost_at: float
    holders: list[Holder] = field(default_factory=list)
    jobs: tuple[Job, ...] = ()
    complete: bool = False
    asked: float | None = None
    looking: asyncio.Task[None] | None = None
    ending: asyncio.Task[None] | None = None
    to_end: dict[tuple[int, int, str], Job] = field(default_factory=dict)

    def sure(self, now: float) -> bool:
        """Whether what is not among ``jobs`` is not there. ``now``: seconds since the epoch."""
        fresh = self.asked is not None and now - self.asked <= FRESH
        return bool(self.holders) and self.complete and fresh


@dataclass(slots=True, eq=False)
class Ledger:
    """One cluster. ``order``: all who are connected, the one who submits last. ``kept``: the last
    one left on purpose and wants its jobs to go on. ``ending_since``: the cluster is being stopped.
    """

    owner: str = ""
    places: dict[str, Place] = field(default_factory=dict)
    order: list[Holder] = field(default_factory=list)
    kept: bool = False
    left_at: float | None = None
    ending_since: float | None = None

    @property
    def active(self) -> Holder | None:
        """The notebook that submits."""
        return self.order[-1] if self.order else None

    def attach(self, holder: Holder, now: float) -> Holder | None:
        """A notebook is here; returns the one that it takes over from."""
        before = self.active
        self.places.pop(UNKNOWN, None)
        place = self.places.setdefault(holder.place, Place(holder.place, now))
        place.holders.append(holder)
        self.order.append(holder)
        self.kept, self.left_at = False, None
        return before

    def detach(self, holder: Holder, now: float, *, keep: bool, cleared: bool) -> Holder | None:
        """A notebook is gone; returns the one that submits from now on if that changes."""
        if holder not in self.order:
            return None
        was_active = self.active is holder
        self.order.remove(holder)
        place = self.places[holder.place]
        place.holders.remove(holder)
        if not place.holders:
            place.lost_at = now
            if cleared:
                del self.places[holder.place]
        if not self.order:
            self.kept, self.left_at = keep, now
        return self.active if was_active else None

    def forget_lost(self, now: float, grace: float) -> None:
        """Count the jobs of places as gone that nobody can ask about any more."""
        for place in list(self.places.values()):
            if place.holders:
                continue
            ending = self.ending_since is not None and now - self.ending_since > LINGER
            elsewhere = bool(self.order) and now - place.lost_at > grace
            if ending or elsewhere:
                del self.places[place.name]

    def unsure(self, now: float) -> bool:
        """Whether absence proves nothing. ``now``: seconds since the epoch."""
        if not self.places:
            # Its last notebook ended all jobs and left, or nobody can know and it is ending.
            return not self.order and self.left_at is None and self.ending_since is None
        return not all(place.sure(now) for place in self.places.values())

    def away(self, now: float) -> float | None:
        """For how many seconds it lacks a notebook that did not mean to leave it alone."""
        if self.order or self.kept or self.left_at is None:
            return None
        return now - self.left_at

    def places_of(self, jobs: Collection[Job]) -> Iterator[tuple[Job, Place]]:
        """Where jobs are; for those that nobody has seen, where jobs are submitted now."""
        homes = {
            (job.batch.sequence, job.index, job.native): place
            for place in self.places.values()
            for job in place.jobs
        }
        last = self.places.get(self.active.place) if self.active else None
        for job in jobs:
            place = homes.get((job.batch.sequence, job.index, job.native), last)
            if place is not None:
                yield job, place
