"""How many workers users wish for: checked against the limits, written down, and told the agent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from penstock.control.entry import Entry
from penstock.control.queue import WakeQueue
from penstock.control.quota import grant, room_for
from penstock.control.registry import Registry
from penstock.model.cluster import Cluster, Scaling
from penstock.model.errors import Conflict, Invalid


class Wishes:
    """Takes wishes down; the loop meets them."""

    def __init__(self, registry: Registry, queue: WakeQueue) -> None:
        self._registry = registry
        self._queue = queue

    async def scale(self, entry: Entry, count: int, group: str | None) -> tuple[int, str | None]:
        """A fixed number of workers; returns what is granted, and why when it is fewer."""
        check_active(entry.cluster)
        if entry.cluster.spec.default_group is None:
            return 0, self._not_ours(entry, f"Asked for {_workers(count)}")
        group = worker_group(entry.cluster, group)
        granted, limited = grant(entry.cluster, group, count)
        await self._write(entry, group, Scaling(count=granted))
        if entry.link is not None:
            total = sum(scaling.count for scaling in entry.cluster.scaling.values())
            entry.link.send({"op": "scale", "count": total})
        self._note(entry, "scaled", f"Scaled to {_workers(granted)}", group)
        return granted, limited

    async def adapt(
        self, entry: Entry, minimum: int, maximum: int | None, group: str | None
    ) -> str | None:
        """As many workers as the scheduler wants, within bounds and limits."""
        check_active(entry.cluster)
        if entry.cluster.spec.default_group is None:
            return self._not_ours(entry, "Asked to adapt")
        group = worker_group(entry.cluster, group)
        if maximum is not None and maximum < minimum:
            raise Invalid(f"maximum ({maximum}) must not be below minimum ({minimum}).")
        for name, scaling in entry.cluster.scaling.items():
            if name != group and scaling.adaptive:
                raise Conflict(f"Only one group can adapt, and {name} does already.")
        low, limited = grant(entry.cluster, group, minimum)
        high = maximum
        if maximum is not None:
            high, limited = grant(entry.cluster, group, maximum)
        await self._write(entry, group, Scaling(adaptive=True, minimum=low, maximum=high))
        bounds = f"at least {_workers(low)}" if high is None else f"{low} to {_workers(high)}"
        self._note(entry, "adapts", f"Adapts to the load with {bounds}", group)
        return limited

    async def stay(self, entry: Entry, group: str | None) -> str | None:
        """No adapting any more: as many workers as there are now."""
        check_active(entry.cluster)
        if entry.cluster.spec.default_group is None:
            return None
        group = worker_group(entry.cluster, group)
        scaling = entry.cluster.scaling.get(group, Scaling())
        if not scaling.adaptive:
            return None
        now, room = entry.current().get(group, 0), room_for(entry.cluster, group)
        count = now if room is None else min(now, room)
        await self._write(entry, group, Scaling(count=count))
        self._note(entry, "adapts", f"Does not adapt any more, stays at {_workers(count)}", group)
        return None

    def _not_ours(self, entry: Entry, what: str) -> str:
        """Note a wish that only whoever brings the workers can meet; what to tell who wished it.

        A warning and no error: clients that bring workers themselves tell us after each step.
        """
        profile = entry.cluster.spec.profile
        text = f"the workers of profile {profile} are brought by its users, not started from here"
        self._registry.note(entry.cluster, "external", f"{what}; {text}.")
        return f"{text[0].upper()}{text[1:]}: start or end them where you submit them."

    async def _write(self, entry: Entry, group: str, scaling: Scaling) -> None:
        """Write a wish down; a group that had stopped gets new tries."""

        def change(cluster: Cluster) -> Cluster:
            check_active(cluster)
            return replace(cluster, scaling={**cluster.scaling, group: scaling})

        await self._registry.update(entry, change)
        entry.health.pop(group, None)
        entry.target = None
        entry.targets.clear()
        if entry.link is not None:
            entry.link.send(adapt_message(entry.cluster))
        self._queue.wake(entry.cluster.name)

    def _note(self, entry: Entry, kind: str, text: str, group: str) -> None:
        where = f" of group {group}" if len(entry.cluster.spec.workers) > 1 else ""
        self._registry.note(entry.cluster, kind, f"{text}{where}.")


def check_active(cluster: Cluster) -> None:
    """Raises Conflict for a cluster that is stopping or over."""
    if not cluster.status.active:
        status = cluster.status.name.lower()
        why = f" {cluster.reason}" if cluster.reason else ""
        raise Conflict(f"Cluster {cluster.name} is {status}, so it cannot be scaled.{why}")


def worker_group(cluster: Cluster, group: str | None) -> str:
    """The group that is meant. Raises Invalid for an unknown one, Conflict when there is none."""
    spec = cluster.spec
    if spec.default_group is None:
        raise Conflict(f"The workers of profile {spec.profile} are not started from here.")
    if group is None:
        return spec.default_group
    if group not in spec.workers:
        raise Invalid(f"group must be one of {', '.join(spec.workers)}, not {group!r}.")
    return group


def adapt_message(cluster: Cluster) -> dict[str, Any]:
    """What the scheduler shall compute its target with; fixed groups count into its bounds."""
    fixed = sum(s.count for s in cluster.scaling.values() if not s.adaptive)
    limit = cluster.spec.limits.max_workers
    for scaling in cluster.scaling.values():
        if scaling.adaptive:
            maximum = None if scaling.maximum is None else scaling.maximum + fixed
            if limit is not None:
                maximum = limit if maximum is None else min(maximum, limit)
            minimum = scaling.minimum + fixed
            return {"op": "adapt", "active": True, "minimum": minimum, "maximum": maximum}
    return {"op": "adapt", "active": False, "minimum": 0, "maximum": None}


def _workers(count: int) -> str:
    return f"{count} worker" if count == 1 else f"{count} workers"
