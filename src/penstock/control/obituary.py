"""What follows from the end of a job: a cluster that failed, a worker to replace, a group to stop.

An agent's own exit report knows more than the batch system (out of memory, the last lines), and
may come before or after the batch system shows the end; either alone is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import structlog

from penstock.control import lifecycle, words
from penstock.control.channel import ExitReport
from penstock.control.deaths import Health, died, exhausted
from penstock.control.entry import Entry
from penstock.control.facts import SCHEDULER, MarkExited, Tracked
from penstock.control.registry import Registry
from penstock.control.site import Site
from penstock.model.cluster import BatchRow, Cluster, Scaling, Status
from penstock.model.ids import BatchId, worker_name
from penstock.model.job import Exit, Job, Phase

LOGS_LIMIT = 10.0
"""Seconds that a failing cluster waits for its scheduler's output."""

_BLAMELESS = (Exit.PREEMPTED, Exit.TIME_LIMIT)
"""Ends that say nothing about whether the group's workers can run."""

_ON_TIME = (None, Exit.DONE, Exit.CANCELLED, Exit.TIME_LIMIT)
"""Ends of workers whose time was nearly over, as far as they are nothing else."""

log = structlog.get_logger()


class Obituaries:
    """Turns ends of jobs into reasons, events and the health of groups."""

    def __init__(self, registry: Registry, sites: Mapping[str, Site], gateway: str) -> None:
        self._registry = registry
        self._sites = sites
        self._gateway = gateway

    def health(self, entry: Entry, group: str) -> Health:
        """A group's recent history."""
        return entry.health.get(group, Health())

    # -- schedulers --

    async def scheduler(self, entry: Entry, end: MarkExited) -> None:
        """The scheduler's job of an active cluster is over: so is the cluster."""
        row = entry.rows[end.sequence].row
        report = entry.exit_reports.get((end.sequence, 0))
        job = end.exits[0]
        output = report.tail if report and report.tail else await self.logs(entry, row, 0)
        if job is not None and job.ends is not None and self._registry.clock() >= job.ends:
            job = replace(job, exit=Exit.TIME_LIMIT)  # however it ended: told to, it ends well
        phrase = words.how(job, report, row.backend, entry.cluster.spec.scheduler.python)
        closed = entry.cluster.status is Status.RUNNING and ended_well(job, report)
        if closed:
            # As after Client.shutdown(): nobody failed.
            reason = "The scheduler closed by itself."
            await self._registry.update(entry, lambda c: lifecycle.stopping(c, reason=reason))
            self._registry.note(entry.cluster, "stopping", reason)
            return
        entry.failed_job = end.sequence
        await self.fail(entry, words.scheduler_ended(phrase, output))

    async def late_report(self, entry: Entry, report: ExitReport) -> None:
        """A scheduler's exit report that came after the batch system had shown its end."""
        phrase = words.how(None, report, entry.cluster.spec.scheduler.backend)
        reason = words.scheduler_ended(phrase, report.tail)

        def change(cluster: Cluster) -> Cluster:
            if cluster.stop_as is not Status.FAILED:
                return cluster
            return replace(cluster, reason=reason)

        await self._registry.update(entry, change)

    async def fail(self, entry: Entry, reason: str) -> None:
        """Bring the cluster down, and have it called FAILED with this reason; the first counts."""
        before = entry.cluster
        cluster = await self._registry.update(
            entry, lambda c: lifecycle.stopping(c, reason=reason, stop_as=Status.FAILED)
        )
        if cluster is not before:
            self._registry.note(cluster, "failed", reason)

    async def logs(self, entry: Entry, row: BatchRow, index: int) -> str:
        """The last output of a job, empty when it cannot be had now."""
        site = self._sites[row.backend]
        job = find_job(site, self._gateway, row, index)
        size = words.LAST_CHARACTERS * 2
        try:
            return await asyncio.wait_for(site.backend.logs(job, tail=size), LOGS_LIMIT)
        except Exception as error:
            cluster = entry.cluster
            log.warning("no output", cluster=cluster.name, user=cluster.user, error=str(error))
            return ""

    async def rejected(self, entry: Entry, row: BatchRow, said: str) -> None:
        """The batch system refused a submission, and would again."""
        if not entry.cluster.status.active:
            return
        if row.group == SCHEDULER:
            await self.fail(entry, f"{row.backend} refused the scheduler's job: {said}")
            return
        health = died(self.health(entry, row.group), _now(), unserved=1, reason=said)
        entry.health[row.group] = health
        text = f"{row.backend} refused {row.count} workers: {said}"
        self._registry.note(entry.cluster, "rejected", text)
        await self._stop_if_exhausted(entry, row.group)

    # -- workers --

    async def workers(self, entry: Entry, tracked: Tracked, end: MarkExited) -> None:
        """Workers ended that were wanted: say how, and let the group wait or stop."""
        row = tracked.row
        reports = {i: entry.exit_reports.pop((end.sequence, i), None) for i in end.exits}
        if row.group == SCHEDULER or not entry.cluster.status.active:
            return
        python = entry.cluster.spec.workers[row.group].python
        named: list[tuple[str, str]] = []
        unserved = blamed = 0
        nodes: set[str] = set()  # one that is lost is one failure, however many workers it had
        last: ExitReport | None = None
        for index, job in end.exits.items():
            report = reports[index]
            if ended_well(job, report) and row.group in entry.asked:
                continue  # it was asked to go, and went before the scheduler's answer came
            exit, served = job.exit if job else None, index in tracked.served
            how = words.how(job, report, row.backend, python)
            on_time = served and index in tracked.leaving and exit in _ON_TIME and not report
            if on_time and exit is not Exit.TIME_LIMIT:
                how = "left before its time limit"
            named.append((worker_name(row.sequence, index), how))
            if job is not None and exit is Exit.LOST and not served:
                nodes.add(job.node)
            else:
                unserved += not served and exit not in _BLAMELESS
            # Even so, what ends before it serves is not tried again and again without a pause.
            blamed += not on_time and not (served and exit in _BLAMELESS)
            last = report or last
        if not named:
            return
        unserved += len(nodes)
        said = last.tail if last else ""
        if unserved and not said:  # its agent did not even start: what did?
            said = await self.logs(entry, row, max(end.exits))
        if blamed:
            await self._mourn(entry, row.group, named, unserved, said)
        else:
            self._note_exits(entry, row.group, words.merge(named), stops=False)

    async def _mourn(
        self,
        entry: Entry,
        group: str,
        named: list[tuple[str, str]],
        unserved: int,
        said: str,
    ) -> None:
        lines = words.merge(named)
        reason = lines[-1]
        tail = words.last_lines(said)
        if tail:
            reason += f". Its last output:\n{tail}"
        health = died(self.health(entry, group), _now(), unserved=unserved, reason=reason)
        entry.health[group] = health
        stops = exhausted(health, entry.cluster.spec.limits.worker_tries)
        self._note_exits(entry, group, lines, stops=stops)
        await self._stop_if_exhausted(entry, group)

    def _note_exits(self, entry: Entry, group: str, lines: list[str], *, stops: bool) -> None:
        wish = entry.cluster.scaling.get(group, Scaling())
        replaced = wish.adaptive or entry.current().get(group, 0) < wish.count
        for line in lines:
            text = f"{line}, replaced" if replaced and not (stops or wish.stopped) else line
            self._registry.note(entry.cluster, "worker-exit", text)

    async def revive(self, entry: Entry, group: str) -> None:
        """A worker of a stopped group serves after all: the group goes on."""

        def change(cluster: Cluster) -> Cluster:
            scaling = cluster.scaling.get(group, Scaling())
            if not scaling.stopped:
                return cluster
            alive = replace(scaling, stopped="")
            return replace(cluster, scaling={**cluster.scaling, group: alive})

        before = entry.cluster
        if await self._registry.update(entry, change) is not before:
            text = f"A worker of group {group} serves after all, so the group goes on."
            self._registry.note(entry.cluster, "group-revived", text)

    async def _stop_if_exhausted(self, entry: Entry, group: str) -> None:
        """A group whose workers never serve gets no more of them, until somebody scales it."""
        health = self.health(entry, group)
        if not exhausted(health, entry.cluster.spec.limits.worker_tries):
            return
        reason = (
            f"No more workers of group {group} are started: {health.failures} in a row ended "
            f"before they served. The last: {health.reason}"
        )

        def change(cluster: Cluster) -> Cluster:
            scaling = cluster.scaling.get(group, Scaling())
            if scaling.stopped:
                return cluster
            stopped = replace(scaling, stopped=reason)
            return replace(cluster, scaling={**cluster.scaling, group: stopped})

        before = entry.cluster
        if await self._registry.update(entry, change) is not before:
            self._registry.note(entry.cluster, "group-stopped", reason)


def ended_well(job: Job | None, report: ExitReport | None) -> bool:
    """Whether a job ended by itself and without a complaint."""
    if report is not None and report.code is not None:
        return report.code == 0
    return job is not None and job.exit is Exit.DONE


def find_job(site: Site, gateway: str, row: BatchRow, index: int) -> Job:
    """A job as the last look showed it, or as much of it as its name tells."""
    shown = site.jobs_of(row.cluster).get(row.sequence, {}).get(index)
    batch = BatchId(gateway, row.cluster, row.sequence)
    return shown or Job(batch, index, native="", owner=row.owner, phase=Phase.EXITED)


def _now() -> float:
    return asyncio.get_running_loop().time()
