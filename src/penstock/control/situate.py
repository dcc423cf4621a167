"""From a cluster's memory to the values that the pure rules look at, and when to look again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from penstock.control import crowding, timeouts
from penstock.control.entry import Entry
from penstock.control.facts import SCHEDULER, Situation
from penstock.control.launch import group_spec
from penstock.control.quota import desired as granted
from penstock.control.site import Site
from penstock.model.cluster import Status
from penstock.model.job import Job

PATIENCE = 300.0
"""Seconds that workers keep their places in a queue after the scheduler's own wish fell.

Waiting costs nothing, and a place is lost with the job. Without this, work that comes and goes in a
minute would submit and cancel for ever in a queue of ten.
"""

RETIRE_LIMIT = 120.0
"""Seconds that a scheduler has to let workers go before they are ended without it."""


def facts(entry: Entry, watching_since: float) -> timeouts.Facts:
    """What the limits of time look at."""
    scheduler = entry.scheduler()
    return timeouts.Facts(
        watching_since=watching_since,
        scheduler_ran=scheduler.ran.get(0) if scheduler else None,
        lifetime_ends=entry.lifetime_ends,
        idle_since=entry.idle_since,
        no_client_since=entry.no_client_since,
    )


def situation(
    entry: Entry, everybody: Iterable[Entry], sites: Mapping[str, Site], now: float
) -> Situation:
    """What the planner looks at. ``everybody``: all clusters, for queues that owners share."""
    cluster = entry.cluster
    counts, leaving = entry.current(), entry.leaving()
    desired = wishes(entry, counts, entry.target)
    keep = desired
    if leaving:
        both = {group: counts.get(group, 0) + leaving.get(group, 0) for group in desired}
        keep = wishes(entry, both, entry.target)
    places = {
        group: group_spec(cluster, group).backend for group in (SCHEDULER, *cluster.spec.workers)
    }
    reported: dict[int, set[int]] = {}
    for sequence, index in entry.exit_reports:
        reported.setdefault(sequence, set()).add(index)
    return Situation(
        rows=entry.rows,
        jobs={name: site.jobs_of(cluster.name) for name, site in sites.items()},
        looks={name: site.look.of(cluster.name) for name, site in sites.items()},
        desired=desired,
        places=places,
        capabilities={name: site.backend.capabilities for name, site in sites.items()},
        now=now,
        holds={group: crowding.hold(entry, group, sites[place]) for group, place in places.items()},
        reported=reported,
        retired=entry.retired,
        retiring=entry.asked.keys(),
        linked=entry.link is not None,
        heard_at=entry.heard_at,
        stopping=cluster.status is Status.STOPPING,
        forced=entry.link is None or now >= entry.grace_ends,
        keep=keep,
        room=crowding.room(entry, everybody, sites, lacking(desired, counts), now),
        patience=patience(entry, desired, counts, now),
    )


def lacking(desired: Mapping[str, int], counts: Mapping[str, int]) -> dict[str, int]:
    """How many jobs each group is short of; the scheduler comes first."""
    return {
        group: number - counts.get(group, 0)
        for group, number in desired.items()
        if number > counts.get(group, 0)
    }


def patience(
    entry: Entry, desired: Mapping[str, int], counts: Mapping[str, int], now: float
) -> dict[str, tuple[int, float]]:
    """Waiting workers that the scheduler wished for until recently: see ``PATIENCE``."""
    recent = [(at, target) for at, target in entry.targets if at + PATIENCE > now]
    if not recent:
        return {}
    at, highest = recent[0]
    peak = wishes(entry, counts, highest)
    return {
        group: (peak[group] - number, at + PATIENCE)
        for group, number in desired.items()
        if peak[group] > number
    }


def missing(entry: Entry, sites: Mapping[str, Site]) -> list[str]:
    """Backends that the cluster needs and that this gateway has no longer configured."""
    groups = [entry.cluster.spec.scheduler, *entry.cluster.spec.workers.values()]
    places = {group.backend for group in groups}
    places.update(tracked.row.backend for tracked in entry.rows.values())
    return sorted(places - sites.keys())


def wishes(entry: Entry, counts: Mapping[str, int], target: int | None) -> dict[str, int]:
    """How many jobs each group shall have; workers only once their scheduler is known.

    ``counts``: how many it has. ``target``: the scheduler's own wish, None while it has none.
    """
    cluster = entry.cluster
    if cluster.status is Status.RUNNING:
        return {SCHEDULER: 1, **granted(cluster, counts, target)}
    none = dict.fromkeys(cluster.spec.workers, 0)
    return {SCHEDULER: 1 if cluster.status is Status.PENDING else 0, **none}


def workers_watched(entry: Entry) -> bool:
    """Whether we would hear of a worker that reaches its scheduler."""
    return entry.link is not None and entry.cluster.status is Status.RUNNING


def next_time(entry: Entry, seen: timeouts.Facts, now: float) -> float:
    """When time alone may change something; infinity when nothing can."""
    cluster = entry.cluster
    if cluster.status.final:
        return math.inf
    times = [asked.at + RETIRE_LIMIT for asked in entry.asked.values()]
    if cluster.status.active:
        times.append(timeouts.next_limit(cluster, seen))
    elif entry.link is not None and entry.grace_ends > now:
        times.append(entry.grace_ends)
    if workers_watched(entry):
        limit = cluster.spec.limits.worker_start_timeout
        rows = entry.rows.values()
        times.append(timeouts.next_silent(rows, timeout=limit, since=entry.linked_at))
    return min(times, default=math.inf)


def strays(entry: Entry, sites: Mapping[str, Site]) -> dict[str, list[Job]]:
    """Living jobs under this cluster's name, by backend."""
    found: dict[str, list[Job]] = {}
    for name, site in sites.items():
        for jobs in site.jobs_of(entry.cluster.name).values():
            alive = [job for job in jobs.values() if job.alive]
            if alive:
                found.setdefault(name, []).extend(alive)
    return found
