"""What arrives over a scheduler's channel, and by the exit reports of dying processes.

News is only taken down and the cluster woken; the next round decides. A message over a link that
was replaced by a newer one is ignored, and so is a worker that no row of this cluster knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from penstock.control import channel, lifecycle, mismatch, situate
from penstock.control.channel import ExitReport, Report, Retired
from penstock.control.deaths import served
from penstock.control.entry import Asked, Entry, Link, Live
from penstock.control.facts import SCHEDULER
from penstock.control.loop import Reconciler
from penstock.control.obituary import Obituaries
from penstock.control.queue import WakeQueue
from penstock.control.registry import Registry
from penstock.control.wishes import adapt_message
from penstock.model.cluster import Scaling, Status
from penstock.model.errors import Conflict, Invalid

OnRoute = Callable[[str, "tuple[str, int] | None"], None]

_BUSY = ("processing", "queued", "unrunnable", "waiting")
"""Tasks in any of these states are work to be done, so the cluster is not idle."""


class Sessions:
    """Takes in what agents say. ``period``: seconds between their reports."""

    def __init__(
        self,
        registry: Registry,
        queue: WakeQueue,
        reconciler: Reconciler,
        obituaries: Obituaries,
        on_route: OnRoute,
        period: float,
    ) -> None:
        self._registry = registry
        self._queue = queue
        self._reconciler = reconciler
        self._obituaries = obituaries
        self._on_route = on_route
        self._period = period

    async def connected(self, entry: Entry, hello: Mapping[str, Any], link: Link) -> dict[str, Any]:
        """An agent is here; the answer is its welcome. Raises Invalid or Conflict."""
        said = channel.parse_hello(hello)
        if entry.cluster.status.final:
            raise Conflict(f"Cluster {entry.cluster.name} has ended.")
        current = entry.scheduler()
        if said.sequence is not None and current and current.row.sequence != said.sequence:
            # Submitted, not seen in time, and given up: rule 1 ends it when it is seen.
            raise Conflict(f"Cluster {entry.cluster.name} has another scheduler by now.")
        before = entry.cluster.status
        wall = self._registry.clock()
        cluster = await self._registry.update(
            entry,
            lambda c: lifecycle.running(
                c, scheduler=said.scheduler, dashboard=said.dashboard, now=wall
            ),
        )
        old, entry.link = entry.link, link
        if old is not None and old is not link:
            old.close()
        entry.linked_at = entry.heard_at = _now()
        entry.asked.clear()
        entry.live = replace(entry.live or Live(), connected=True, at=wall, versions=said.versions)
        self._note_workers(entry, said.workers)
        if before is Status.PENDING and cluster.status is Status.RUNNING:
            self._registry.note(cluster, "running", f"Its scheduler listens at {said.scheduler}.")
        if cluster.status.active:
            self._on_route(cluster.name, channel.parse_address(cluster.scheduler_address))
        else:
            # After the welcome, which the caller sends as soon as it has it.
            goodbye = {"op": "close", "reason": cluster.reason}
            asyncio.get_running_loop().call_soon(link.send, goodbye)
        self._queue.wake(cluster.name)
        return {"op": "welcome", "period": self._period, "adapt": adapt_message(cluster)}

    def _note_workers(self, entry: Entry, workers: frozenset[tuple[int, int]]) -> None:
        """The scheduler's whole list of workers."""
        scheduler = entry.scheduler()
        if scheduler is not None:
            scheduler.accepted = True
        for tracked in entry.rows.values():
            tracked.registered.clear()
        for sequence, index in workers:
            self._registered(entry, sequence, index)

    def _registered(self, entry: Entry, sequence: int, index: int) -> str | None:
        """Note a worker as serving; the group that it belongs to, None when it is not ours."""
        tracked = entry.register(sequence, index)
        if tracked is None:
            return None
        group = tracked.row.group
        if group in entry.health:
            entry.health[group] = served(entry.health[group])
        return group

    async def message(self, entry: Entry, link: Link, message: Mapping[str, Any]) -> None:
        """One frame of a connected agent. Raises Invalid for what is malformed."""
        if entry.link is not link:
            return
        entry.heard_at = _now()
        op = message.get("op")
        if op == "report":
            self._report(entry, channel.parse_report(message))
        elif op == "retired":
            self._retired(entry, channel.parse_retired(message))
        elif op == "closing":
            said = channel.text(message, "reason")
            reason = f"The scheduler closed: {said}" if said else "The scheduler closed."
            await self._reconciler.stop(entry, reason)
        elif op == "terminated":
            # Cancelled, preempted, out of time: the end of the job will tell which.
            text = "The scheduler's job was told to end."
            self._registry.note_once(entry, "terminated", text)
        elif not isinstance(op, str):
            raise Invalid("op must be a text.")

    def _report(self, entry: Entry, said: Report) -> None:
        now = _now()
        if said.added or said.removed:
            for sequence, index in said.added:
                group = self._registered(entry, sequence, index)
                if group is not None and entry.cluster.scaling.get(group, Scaling()).stopped:
                    entry.revived.add(group)
            for sequence, index in said.removed:
                tracked = entry.rows.get(sequence)
                if tracked is not None:
                    tracked.registered.discard(index)
        if said.mismatch and entry.live is not None:
            text = mismatch.words(said.mismatch, entry.live.versions)
            self._registry.note_changed(entry, "versions", mismatch.key(said.mismatch), text)
        news = bool(said.added or said.removed) or said.target != entry.target
        self._note_target(entry, said.target, now)
        news |= self._note_quiet(entry, said, now)
        entry.live = Live(
            connected=True,
            at=self._registry.clock(),
            workers=said.workers,
            threads=said.threads,
            clients=said.clients,
            tasks=said.tasks,
            memory=said.memory,
            memory_limit=said.memory_limit,
            cpu=said.cpu,
            scheduler_cpu=said.scheduler_cpu,
            scheduler_memory=said.scheduler_memory,
            idle=said.idle,
            target=said.target,
            versions=entry.live.versions if entry.live else {},
        )
        if news:
            self._queue.wake(entry.cluster.name)

    def _note_target(self, entry: Entry, target: int | None, now: float) -> None:
        """Take a new target, and keep how high those before it were, the highest first."""
        before = entry.target
        if before is not None and target is not None and target < before:
            entry.targets = [(at, high) for at, high in entry.targets if high > before]
            entry.targets.append((now, before))
        entry.target = target
        entry.targets = [(at, high) for at, high in entry.targets if at + situate.PATIENCE > now]

    def _note_quiet(self, entry: Entry, said: Report, now: float) -> bool:
        """Since when nobody works and nobody is there; whether a limit is running now."""
        busy = any(said.tasks.get(state) for state in _BUSY)
        idle = None if busy or said.idle <= 0 else now - said.idle
        no_client = None if said.clients else entry.no_client_since or now
        changed = (idle is None) != (entry.idle_since is None) or (no_client is None) != (
            entry.no_client_since is None
        )
        if idle is None or entry.idle_since is None or idle > entry.idle_since + self._period:
            entry.idle_since = idle
        entry.no_client_since = no_client
        return changed

    def _retired(self, entry: Entry, said: Retired) -> None:
        asked: Asked | None = None
        for group, waiting in list(entry.asked.items()):
            if waiting.id == said.id:
                asked = entry.asked.pop(group)
        for sequence, index in said.workers:
            tracked = entry.rows.get(sequence)
            if tracked is not None and tracked.row.group != SCHEDULER and index < tracked.row.count:
                entry.retired.setdefault(sequence, set()).add(index)
        if asked is not None and said.error:
            left = tuple(worker for worker in asked.candidates if worker not in said.workers)
            missing = max(0, asked.count - len(said.workers))
            self._reconciler.let_go(entry, left[:missing], said.error)
        self._queue.wake(entry.cluster.name)

    def disconnected(self, entry: Entry, link: Link) -> None:
        """A channel dropped. That alone ends nothing: jobs are judged by their backend."""
        if entry.link is not link:
            return
        entry.link = None
        entry.asked.clear()
        entry.idle_since = entry.no_client_since = None
        if entry.live is not None:
            entry.live = replace(entry.live, connected=False)
        self._queue.wake(entry.cluster.name)

    async def exited(self, entry: Entry, said: ExitReport) -> None:
        """A job's process died and its agent says how."""
        if said.scheduler and entry.failed_job == said.sequence:
            entry.failed_job = None
            await self._obituaries.late_report(entry, said)
            return
        tracked = entry.rows.get(said.sequence)
        if tracked is None or (tracked.row.group == SCHEDULER) != said.scheduler:
            return
        if said.index in tracked.row.wanted:
            tracked.accepted = True
            entry.exit_reports.setdefault((said.sequence, said.index), said)
            self._queue.wake(entry.cluster.name)


def _now() -> float:
    return asyncio.get_running_loop().time()
