"""How many jobs a cluster may submit now, where a site limits how many may wait in its queue.

Sites cap the jobs that one user has in the queue, and refuse what is more. Sending everything and
taking the refusals would be simpler, but then the largest array wins or nobody does, and a user's
second cluster waits for ever behind the first. So the places are shared out: what is wanted waits
here, in the order that schedulers come first and clusters get equal shares (:func:`shares`).

The cap that is configured may be higher than the true one, or others may use the queue, too. Then
the batch system says ``Full``, and :class:`Pressed` finds out how much fits: half of what was
refused, and nothing for a while once even one job is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

FIRST, LAST = 10.0, 300.0
"""Seconds between two tries while the queue takes nothing and does not move."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one cluster of an owner has and wants in a queue, in jobs.

    ``waiting``: do not run yet as far as is known, submitted or about to be. ``scheduler`` and
    ``workers``: shall be submitted.
    """

    waiting: int = 0
    scheduler: int = 0
    workers: int = 0


def shares(demands: Mapping[str, Demand], cap: int) -> dict[str, int]:
    """How many jobs each cluster may submit now. ``demands``: of all clusters of one owner.

    Max-min fair over what would wait then: nobody gets more while another that wants more has less.
    """
    free = max(0, cap - sum(demand.waiting for demand in demands.values()))
    granted = dict.fromkeys(demands, 0)
    for name, demand in sorted(demands.items()):
        granted[name] = min(demand.scheduler, free)
        free -= granted[name]
    hungry = {name for name, demand in demands.items() if demand.workers > 0}
    while free > 0 and hungry:
        # Raise the lowest up to the next one, all of them together where they are level.
        levels = {name: demands[name].waiting + granted[name] for name in hungry}
        lowest = min(levels.values())
        low = sorted(name for name in hungry if levels[name] == lowest)
        above = min((level for level in levels.values() if level > lowest), default=lowest + free)
        for place, name in enumerate(low):
            wanted = demands[name].scheduler + demands[name].workers - granted[name]
            fair = -(-free // (len(low) - place))
            more = min(wanted, fair, above - lowest)
            granted[name] += more
            free -= more
            if more == wanted:
                hungry.discard(name)
    return granted


@dataclass(frozen=True, slots=True)
class Load:
    """An owner's jobs in a queue: those that wait, and all."""

    waiting: int
    alive: int


@dataclass(frozen=True, slots=True)
class Pressed:
    """A cluster whose submissions a batch system found too many.

    ``size``: the most jobs to try at once. ``until``: none before, unless the queue moves, which
    ``load`` tells: the owner's jobs when it was full. ``said``: in the batch system's words.
    ``growing``: there is more room by now, so that each batch may be twice as large as the last.
    """

    size: int
    until: float
    delay: float
    load: Load
    said: str
    growing: bool = False


def refused(before: Pressed | None, count: int, said: str, *, load: Load, now: float) -> Pressed:
    """A batch of ``count`` jobs was too many."""
    delay = before.delay if before else 0.0
    if count > 1:
        return Pressed(count // 2, now, delay, load, said)
    delay = min(LAST, 2 * delay) if delay else FIRST
    return Pressed(1, now + delay, delay, load, said)


def taken(before: Pressed, count: int) -> Pressed:
    """A batch of ``count`` jobs fitted. After a wait it may be that more fit by now."""
    growing = before.growing or before.delay > 0.0
    size = 2 * count if growing else before.size
    return replace(before, size=size, delay=0.0, growing=growing)


def try_now(state: Pressed, *, load: Load, under_way: bool, now: float) -> int:
    """How many jobs to try. One batch at a time, or nothing would be learnt from it."""
    moved = load.waiting < state.load.waiting or load.alive < state.load.alive
    return 0 if under_way or (now < state.until and not moved) else state.size


def divide(places: int, lacking: Mapping[str, int]) -> dict[str, int]:
    """Places in a queue for the groups of one cluster, in their order."""
    room = {}
    for group, lack in lacking.items():
        room[group] = min(places, max(0, lack))
        places -= room[group]
    return room
