"""The one loop: a cluster was woken, so look at what is known, plan, and act.

It does not matter what woke it, nor whether this process just started: each round decides anew
from journal, last look and wishes, and a round that fails half-way is simply tried again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping

import structlog

from penstock.control import lifecycle, situate, timeouts, walltime, words
from penstock.control.absorb import absorb
from penstock.control.channel import ExitReport
from penstock.control.entry import Entry
from penstock.control.execute import Executor
from penstock.control.facts import SCHEDULER
from penstock.control.launch import group_life, group_spec
from penstock.control.plan import plan
from penstock.control.queue import WakeQueue
from penstock.control.registry import Registry
from penstock.control.site import Site
from penstock.control.tell import Teller
from penstock.model.cluster import Status
from penstock.model.errors import StoreError

GRACE = 5.0
"""Seconds that a stopping cluster has to close by itself before its jobs are cancelled."""

RETRY = 2.0
"""Seconds after which a round that failed is tried again."""

LEAST_PAUSE = 0.1
"""Seconds between two rounds of a cluster that nothing but a timer asked for."""

log = structlog.get_logger()


class Reconciler:
    """Works on woken clusters, one round each. ``on_final``: a cluster is over."""

    def __init__(
        self,
        registry: Registry,
        sites: Mapping[str, Site],
        executor: Executor,
        queue: WakeQueue,
        on_final: Callable[[str], None],
    ) -> None:
        self._registry = registry
        self._sites = sites
        self._executor = executor
        self._queue = queue
        self._on_final = on_final
        self._watching_since = _now()
        self._teller = Teller(registry, sites)

    async def working(self) -> None:
        """Take woken clusters for ever."""
        while True:
            name = await self._queue.get()
            try:
                await self.round(name)
            except StoreError as error:
                log.error("journal not written, will try again", cluster=name, error=str(error))
                self._queue.wake_at(name, _now() + RETRY)
            except Exception:
                log.exception("round failed, will try again", cluster=name)
                self._queue.wake_at(name, _now() + RETRY)
            finally:
                self._queue.done(name)

    async def round(self, name: str) -> None:
        """One round for one cluster."""
        entry = self._registry.entries.get(name)
        if entry is None:
            return
        if entry.cluster.status.final:
            self._end_strays(entry)
            return
        missing = situate.missing(entry, self._sites)
        if missing:
            # Not failed: an admin who corrects the configuration finds the cluster as it was.
            text = f"Nothing is done: the gateway has no backend {', '.join(missing)} any more."
            self._registry.note_once(entry, "no-backend", text)
            await self._registry.flush()
            return
        now = _now()
        following = self._absorb(entry, now)
        while entry.revived:
            await self._executor.obituaries.revive(entry, entry.revived.pop())
        await self._end_what_is_due(entry, now)
        answer = plan(situate.situation(entry, self._registry, self._sites, now))
        self._executor.reserve(entry, answer)
        self._await_looks(entry, answer.awaited)
        more = self._teller.why(entry, answer, now)
        if await self._executor.execute(entry, answer):
            self._queue.wake(name)
        elif entry.cluster.status is Status.STOPPING and not entry.rows:
            await self._finish(entry)
        await self._registry.flush()
        again = situate.next_time(entry, situate.facts(entry, self._watching_since), now)
        # A limit that was reached has had its effect by now; whatever else, never spin.
        when = min(answer.wake_at, again, following, more)
        self._queue.wake_at(name, max(when, now + LEAST_PAUSE))

    async def stop(
        self, entry: Entry, reason: str, stop_as: Status = Status.STOPPED, kind: str = "stopping"
    ) -> None:
        """Begin to bring a cluster down; nothing happens to one that is on its way already."""
        if not entry.cluster.status.active:
            return
        cluster = await self._registry.update(
            entry, lambda c: lifecycle.stopping(c, reason=reason, stop_as=stop_as)
        )
        self._registry.note(cluster, kind, reason)
        if entry.link is not None:
            entry.link.send({"op": "close", "reason": reason})
            entry.grace_ends = _now() + GRACE
        self._queue.wake(cluster.name)

    def _absorb(self, entry: Entry, now: float) -> float:
        """Take the last looks in. When a worker's time will be nearly over, of the steady clock."""
        wall, following = self._registry.clock(), math.inf
        new, first = 0, math.inf
        for tracked in entry.rows.values():
            row, site = tracked.row, self._sites[tracked.row.backend]
            jobs = site.jobs_of(entry.cluster.name)
            absorb(tracked, jobs, site.look.of(entry.cluster.name), wall=wall, now=now)
            if row.group == SCHEDULER:
                job = jobs.get(row.sequence, {}).get(0)
                left = self._teller.scheduler_ends(entry, job) if job else None
                following = min(following, math.inf if left is None else now + left)
                continue
            life = self._life(entry, row.group, site)
            more, at = walltime.mark(tracked, jobs, life, wall=wall, now=now)
            following = min(following, at)
            if more > 0:
                new += more
                first = min(first, *tracked.leaving.values())
        if new:
            self._teller.leaving(entry, new, wall + first - now)
        return following

    def _life(self, entry: Entry, group: str, site: Site) -> walltime.Lifetime | None:
        if group not in entry.lives:
            entry.lives[group] = group_life(site.backend, group_spec(entry.cluster, group))
        return entry.lives[group]

    # -- limits of time --

    async def _end_what_is_due(self, entry: Entry, now: float) -> None:
        facts = situate.facts(entry, self._watching_since)
        verdict = timeouts.reached(entry.cluster, facts, now)
        if verdict is not None:
            await self._end_cluster(entry, verdict)
        self._end_silent_workers(entry, now)
        self._end_unanswered(entry, now)

    async def _end_cluster(self, entry: Entry, verdict: timeouts.Verdict) -> None:
        reason = verdict.reason
        scheduler = entry.scheduler()
        if verdict.stop_as is Status.FAILED and scheduler is not None:
            output = await self._executor.obituaries.logs(entry, scheduler.row, 0)
            reason += words.output(output)
        await self.stop(entry, reason, verdict.stop_as, verdict.kind)

    def _end_silent_workers(self, entry: Entry, now: float) -> None:
        """Workers that run and never reach their scheduler count as dead."""
        if not situate.workers_watched(entry):
            return
        limit = entry.cluster.spec.limits.worker_start_timeout
        reason = f"ran for {timeouts.span(limit)} without reaching the scheduler"
        for worker in timeouts.silent_workers(
            entry.rows.values(), timeout=limit, since=entry.linked_at, now=now
        ):
            report = ExitReport(*worker, scheduler=False, code=None, reason=reason, tail="")
            entry.exit_reports.setdefault(worker, report)

    def _end_unanswered(self, entry: Entry, now: float) -> None:
        """Workers that the scheduler does not let go in time go without it."""
        for group, asked in list(entry.asked.items()):
            if asked.at + situate.RETIRE_LIMIT <= now:
                del entry.asked[group]
                why = f"the scheduler did not answer for {timeouts.span(situate.RETIRE_LIMIT)}"
                self.let_go(entry, asked.candidates[: asked.count], why)

    def let_go(self, entry: Entry, workers: tuple[tuple[int, int], ...], why: str) -> None:
        """Release workers that could not be retired; their data is computed again."""
        for sequence, index in workers:
            entry.retired.setdefault(sequence, set()).add(index)
        text = f"{len(workers)} workers were ended without moving their data away: {why}"
        self._registry.note(entry.cluster, "not-retired", text)

    # -- the end --

    def _end_strays(self, entry: Entry) -> None:
        """Jobs of a cluster that is over are not wanted, whenever they show up (rule 1)."""
        strays = situate.strays(entry, self._sites)
        for name, jobs in strays.items():
            self._sites[name].cancel(jobs)
        self._await_looks(entry, set(strays))

    async def _finish(self, entry: Entry) -> None:
        """Nothing of the cluster is open: it is over once nothing of it is seen alive, either."""
        if situate.strays(entry, self._sites):
            return
        now = self._registry.clock()
        cluster = await self._registry.update(entry, lambda c: lifecycle.ended(c, now=now))
        self._registry.note(cluster, "ended", "All of its jobs have ended.")
        if entry.link is not None:
            entry.link.close()
        entry.forget()
        self._on_final(cluster.name)

    def _await_looks(self, entry: Entry, awaited: set[str]) -> None:
        for name, site in self._sites.items():
            if name in awaited:
                site.awaiting.add(entry.cluster.name)
            else:
                site.awaiting.discard(entry.cluster.name)


def _now() -> float:
    return asyncio.get_running_loop().time()
