"""From all clusters of an owner to the room that one of them has in a queue: see ``room``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from penstock.control.deaths import Health
from penstock.control.entry import Entry
from penstock.control.facts import NOT_TAKEN, SCHEDULER
from penstock.control.launch import group_spec
from penstock.control.quota import desired
from penstock.control.room import Demand, Load, divide, shares, try_now
from penstock.control.site import Site
from penstock.model.cluster import Status


def room(
    entry: Entry,
    everybody: Iterable[Entry],
    sites: Mapping[str, Site],
    lacking: Mapping[str, int],
    now: float,
) -> dict[str, int]:
    """How many jobs each lacking group may submit now; those are not in it that may submit all."""
    found: dict[str, int] = {}
    places = {group_spec(entry.cluster, group).backend for group in lacking}
    for name in [place for place in entry.pressed if place not in places]:
        if not under_way(entry, name):
            del entry.pressed[name]  # all that was wanted has fitted
    for name in places:
        cap, state = sites[name].backend.capabilities.max_queued, entry.pressed.get(name)
        if cap is None and state is None:
            continue
        here = {g: n for g, n in lacking.items() if group_spec(entry.cluster, g).backend == name}
        others = fellows(entry, everybody)
        free = sum(here.values())
        if cap is not None:
            demands = {one.cluster.name: demand(one, sites[name], now) for one in others}
            free = shares(demands, cap)[entry.cluster.name]
        if state is not None:
            waits = under_way(entry, name)
            load = load_of(others, name)
            free = min(free, try_now(state, load=load, under_way=waits, now=now))
        found.update(divide(free, here))
    return found


def demand(entry: Entry, site: Site, now: float) -> Demand:
    """What a cluster has and wants in a queue; not what it may not submit for other reasons."""
    waiting, status = entry.load(site.name).waiting, entry.cluster.status
    if not status.active:
        return Demand(waiting)
    spec, counts = entry.cluster.spec, entry.current()
    wished = {SCHEDULER: 1}
    if status is Status.RUNNING:
        wished.update(desired(entry.cluster, counts, entry.target))
    lack = {
        group: max(0, number - counts.get(group, 0))
        for group, number in wished.items()
        if group_spec(entry.cluster, group).backend == site.name and hold(entry, group, site) <= now
    }
    return Demand(
        waiting, lack.get(SCHEDULER, 0), sum(lack.get(group, 0) for group in spec.workers)
    )


def fellows(entry: Entry, everybody: Iterable[Entry]) -> list[Entry]:
    """All clusters of a cluster's owner."""
    return [one for one in everybody if one.cluster.owner == entry.cluster.owner]


def load_of(entries: Iterable[Entry], backend: str) -> Load:
    """The jobs of several clusters in a backend."""
    loads = [entry.load(backend) for entry in entries]
    return Load(sum(load.waiting for load in loads), sum(load.alive for load in loads))


def under_way(entry: Entry, backend: str) -> bool:
    """Whether a submission of this cluster has not come back yet, or was in vain just now."""
    return any(
        tracked.settled_at is None or isinstance(tracked.outcome, NOT_TAKEN)
        for tracked in entry.rows.values()
        if tracked.row.backend == backend
    )


def hold(entry: Entry, group: str, site: Site) -> float:
    """Before when a group may not submit: for its own deaths, or its backend's troubles."""
    return max(entry.health.get(group, Health()).not_before, site.holds(entry.cluster.name))
