"""Limits of time that end a cluster or a worker, each with the sentence that the user reads.

What counts and what does not is the whole difficulty:

* A wait in a queue never counts. The start timeout runs from when the job *runs*.
* Time in which this server was not up to hear the report does not count either, so every limit on
  silence starts at the earliest when this process began to watch.
* Without a live channel nobody knows whether a cluster is idle or has clients; then it is neither.

Times are seconds of the process's steady clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from penstock.control.facts import SCHEDULER, Tracked
from penstock.model.cluster import Cluster, Status


@dataclass(frozen=True, slots=True)
class Facts:
    """What the limits look at.

    ``watching_since``: when this process began to watch. ``scheduler_ran``: since when the
    scheduler's job runs, None while it does not. ``lifetime_ends``: the end of ``max_lifetime``.
    ``idle_since`` and ``no_client_since``: None while it is not so, or not known.
    """

    watching_since: float
    scheduler_ran: float | None = None
    lifetime_ends: float | None = None
    idle_since: float | None = None
    no_client_since: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A limit: when it is reached, what the cluster becomes, and why."""

    at: float
    stop_as: Status
    kind: str
    reason: str


def limits(cluster: Cluster, facts: Facts) -> Iterator[Verdict]:
    """All limits that are running now, reached or not."""
    bounds = cluster.spec.limits
    if cluster.status is Status.PENDING and facts.scheduler_ran is not None:
        began = max(facts.scheduler_ran, facts.watching_since)
        yield Verdict(
            began + bounds.start_timeout,
            Status.FAILED,
            "start-timeout",
            f"The scheduler's job ran for {span(bounds.start_timeout)} without reporting to the "
            "gateway (start_timeout).",
        )
    if facts.lifetime_ends is not None:
        yield Verdict(
            facts.lifetime_ends,
            Status.STOPPED,
            "max-lifetime",
            f"The cluster reached its maximum lifetime of {span(bounds.max_lifetime or 0)} "
            "(max_lifetime).",
        )
    if cluster.status is Status.RUNNING:
        yield from quiet(cluster, facts)


def quiet(cluster: Cluster, facts: Facts) -> Iterator[Verdict]:
    """The limits on a cluster that nobody uses."""
    bounds = cluster.spec.limits
    if bounds.no_client_timeout is not None and facts.no_client_since is not None:
        yield Verdict(
            facts.no_client_since + bounds.no_client_timeout,
            Status.STOPPED,
            "no-client-timeout",
            f"No client was connected for {span(bounds.no_client_timeout)} (no_client_timeout).",
        )
    if bounds.idle_timeout is not None and facts.idle_since is not None:
        yield Verdict(
            facts.idle_since + bounds.idle_timeout,
            Status.STOPPED,
            "idle-timeout",
            f"The cluster had no tasks for {span(bounds.idle_timeout)} (idle_timeout).",
        )


def reached(cluster: Cluster, facts: Facts, now: float) -> Verdict | None:
    """The limit that was reached first, if any was."""
    due = [limit for limit in limits(cluster, facts) if limit.at <= now]
    return min(due, key=lambda limit: limit.at, default=None)


def next_limit(cluster: Cluster, facts: Facts) -> float:
    """When the next limit will be reached if nothing happens; infinity when there is none."""
    return min((limit.at for limit in limits(cluster, facts)), default=math.inf)


def silent_workers(
    rows: Iterable[Tracked], *, timeout: float, since: float, now: float
) -> Iterator[tuple[int, int]]:
    """(sequence, index) of workers that ran for ``timeout`` and never reached the scheduler.

    ``since``: from when on we could have heard of it (the channel's last connect).
    """
    for tracked in rows:
        for index in silent_indices(tracked):
            if max(tracked.ran[index], since) + timeout <= now:
                yield tracked.row.sequence, index


def silent_indices(tracked: Tracked) -> list[int]:
    """The workers of a row that run, are wanted, and have never reached the scheduler."""
    silent = tracked.ran.keys() - tracked.served
    if not silent or tracked.row.group == SCHEDULER:
        return []
    return sorted(silent & tracked.row.wanted)


def next_silent(rows: Iterable[Tracked], *, timeout: float, since: float) -> float:
    """When the next worker that has not reached its scheduler will have had its time."""
    return min(
        (
            max(tracked.ran[index], since) + timeout
            for tracked in rows
            for index in silent_indices(tracked)
        ),
        default=math.inf,
    )


def span(seconds: float) -> str:
    """A length of time for people: ``90 s``, ``30 min``, ``8 h``, ``7 d``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
