"""How many workers are granted: the pure arithmetic of limits.

Now there is one limit, of workers in a cluster. Quotas by user and by group of users join here:
they are decided in the same two places, when a cluster is created and when it is scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from penstock.model.cluster import Cluster, Scaling
from penstock.model.errors import Invalid

MOST_WORKERS = 1_000_000
"""More is a typing error, whatever the limits say."""


def grant(cluster: Cluster, group: str, count: int) -> tuple[int, str | None]:
    """How many workers a group gets of ``count``, and a sentence for the user when it is fewer.

    Raises Invalid for a count below 0 or beyond any sense.
    """
    if not 0 <= count <= MOST_WORKERS:
        raise Invalid(f"count must be between 0 and {MOST_WORKERS}, not {count}.")
    room = room_for(cluster, group)
    if room is None or count <= room:
        return count, None
    limit = cluster.spec.limits.max_workers
    elsewhere = "" if room == limit else f", and its other groups have {(limit or 0) - room}"
    return room, (
        f"This cluster may have at most {limit} workers{elsewhere}: "
        f"{count} were asked for, {room} are granted."
    )


def initial_scaling(cluster: Cluster) -> dict[str, Scaling]:
    """What a new cluster's groups begin with. Raises Invalid for more than its limits allow."""
    for group, spec in cluster.spec.workers.items():
        if spec.initial:
            granted, limited = grant(cluster, group, spec.initial)
            if limited:
                raise Invalid(limited)
            scaling = {**cluster.scaling, group: Scaling(count=granted)}
            cluster = replace(cluster, scaling=scaling)
    return dict(cluster.scaling)


def room_for(cluster: Cluster, group: str) -> int | None:
    """How many workers a group may have beside what the other groups claim; None: any number."""
    limit = cluster.spec.limits.max_workers
    if limit is None:
        return None
    others = sum(
        max(scaling.count, scaling.minimum)
        for name, scaling in cluster.scaling.items()
        if name != group
    )
    return max(0, limit - others)


def desired(cluster: Cluster, current: Mapping[str, int], target: int | None) -> dict[str, int]:
    """How many workers each group shall have now.

    ``target`` is the scheduler's own wish for all workers together, None while it has none: then
    an adaptive group keeps what it has. A group that stopped gets no new workers.
    """
    wishes: dict[str, int] = {}
    fixed = sum(s.count for s in cluster.scaling.values() if not s.adaptive)
    for group in cluster.spec.workers:
        scaling = cluster.scaling.get(group, Scaling())
        have = current.get(group, 0)
        wish = adaptive_wish(scaling, have, target, fixed) if scaling.adaptive else scaling.count
        room = room_for(cluster, group)
        if room is not None:
            wish = min(wish, room)
        wishes[group] = min(wish, have) if scaling.stopped else wish
    return wishes


def adaptive_wish(scaling: Scaling, have: int, target: int | None, fixed: int) -> int:
    """The scheduler's target, less what fixed groups give, within the user's bounds."""
    wish = have if target is None else min(target, MOST_WORKERS) - fixed
    if scaling.maximum is not None:
        wish = min(wish, scaling.maximum)
    return max(wish, scaling.minimum)
