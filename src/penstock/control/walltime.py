"""When a worker has to go because its job's time is over, and how to be ahead of that.

A job that runs into its time limit takes its data with it, and leaves a hole until another one has
waited in the queue. So a worker near its end is *leaving* (:func:`term`): it works on, but does not
count any more, so that another one is asked for; it goes once that one serves, or at its last
moment. Its agent's own ``lifetime`` ends it a bit later (:func:`lifetime`), for the case that the
server is away then. Waiting for the end and replacing afterwards would be simpler, and would lose
everything that the workers hold.

With the margin m of a run time (a fortieth of it, see :func:`margin`), counted back from the limit:
leaving begins 4 m to 3 m before, the last moment is 2 m to 1.5 m before, the agent's own end
1.25 m to 0.75 m before. Which worker of a group goes when is drawn from its name, in a few
cohorts: hundreds that started together do not leave together, and still make few submissions.

Ends come from other machines' clocks, the rules run on the server's steady one. A start that this
process has watched is what counts then, so that no clock that is wrong makes workers leave as
soon as they come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from penstock.control.facts import Jobs, Tracked
from penstock.model.cluster import GroupSpec
from penstock.model.errors import Rejected
from penstock.model.job import Job, Phase
from penstock.settings.units import parse_duration

LEAST, MOST = 60.0, 600.0
"""Seconds of margin, however short or long a job may run (but see ``margin``)."""

COHORTS = 8
"""Groups of workers that leave together."""

_GOLDEN, _PLASTIC = 0.6180339887498949, 0.7548776662466927
"""Their multiples' fractions lie evenly in 0 to 1 (additive recurrence)."""

_NO_JOBS: Mapping[int, Job] = {}


@dataclass(frozen=True, slots=True)
class Lifetime:
    """After how many seconds of work an agent ends its worker by itself, give or take ``stagger``."""

    seconds: float
    stagger: float


@dataclass(frozen=True, slots=True)
class Term:
    """When a worker begins to leave, and the last moment to hand its data over."""

    early: float
    last: float


def margin(limit: float) -> float:
    """Seconds that are kept free before the end of a job that may run ``limit`` seconds."""
    return min(limit / 12, max(LEAST, min(limit / 40, MOST)))


def lifetime(spec: GroupSpec, limit: float | None) -> Lifetime | None:
    """How long the workers of a group work at most; None: for ever.

    ``limit``: seconds that the batch system lets their jobs run, None when it is not known before.
    Raises Rejected for settings that are no durations.
    """
    own, stagger = _seconds(spec, "lifetime"), _seconds(spec, "lifetime_stagger")
    longest = None if limit is None else limit - margin(limit)
    if own is None and longest is None:
        return None
    seconds = min(limit for limit in (own, longest) if limit is not None)
    spread = margin(seconds) / 4 if stagger is None else stagger
    return Lifetime(seconds, min(spread, seconds / 2))


def _seconds(spec: GroupSpec, key: str) -> float | None:
    value = spec.extras.get(key)
    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise Rejected(f"{key} {error}") from None


def cohort(sequence: int, index: int) -> float:
    """Where in a window of 0 to 1 a worker goes: the same at each look and after each restart."""
    return int((sequence * _PLASTIC + index * _GOLDEN) % 1.0 * COHORTS) / COHORTS


def term(
    job: Job, life: Lifetime | None, *, ran: float, watched: bool, wall: float, now: float
) -> Term | None:
    """When a running worker goes, on the steady clock; None when nothing ends it.

    ``ran``: when it was first seen running; ``watched``: by the process that submitted it.
    ``wall``: ``now`` in seconds since the epoch.
    """
    since = wall - (now - ran) if job.since is None else job.since
    limits = []
    if job.ends is not None:
        limits.append((job.ends - since - 1.25 * margin(job.ends - since), job.ends - since))
    if life is not None:
        limits.append((life.seconds - life.stagger, life.seconds))
    span, whole = min(limits, default=(0.0, 0.0))
    if span <= 0.0:
        return None
    end = since - wall + now + span
    if watched:
        end = max(min(end, ran + span), ran + span / 2)
    place, free = cohort(job.batch.sequence, job.index), margin(whole)
    # On a grid: those that have drifted apart over generations are still replaced by the batch.
    early = (end - (2.75 - place) * free) // (free / 4) * (free / 4)
    return Term(early, end - (0.75 - place / 2) * free)


def warning(job: Job, wall: float) -> float:
    """When to warn of the end of a job that nothing replaces, seconds since the epoch."""
    assert job.ends is not None
    return job.ends - 4 * margin(job.ends - min(job.since or wall, job.ends))


def mark(
    tracked: Tracked, jobs: Jobs, life: Lifetime | None, *, wall: float, now: float
) -> tuple[int, float]:
    """Note which workers of a row are leaving. How many are new, and when the next one will be.

    One that left the last look stays what it was: its end has to be understood, too.
    """
    row, before = tracked.row, len(tracked.leaving)
    following = float("inf")
    if tracked.leaving and tracked.leaving.keys() - row.wanted:
        tracked.leaving = {i: at for i, at in tracked.leaving.items() if i in row.wanted}
        before = len(tracked.leaving)
    for index, job in jobs.get(row.sequence, _NO_JOBS).items():
        if job.phase is not Phase.RUNNING or (job.ends is None and life is None):
            if job.phase is Phase.RUNNING:
                tracked.leaving.pop(index, None)
            continue
        if index not in tracked.ran or index in row.released or index in row.exited:
            continue
        found = term(job, life, ran=tracked.ran[index], watched=tracked.watched, wall=wall, now=now)
        if found is not None and found.early <= now:
            tracked.leaving[index] = found.last
            continue
        tracked.leaving.pop(index, None)
        if found is not None:
            following = min(following, found.early)
    return len(tracked.leaving) - before, following
