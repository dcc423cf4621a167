"""The jobs of a cluster as its user may see them: one line each, from the last look.

What a batch system's own listing would show, for whoever has no shell there, in the same words
whatever the batch system is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from penstock.control.channel import printable
from penstock.control.entry import Entry
from penstock.control.facts import SCHEDULER
from penstock.control.site import Site
from penstock.model.cluster import BatchRow
from penstock.model.job import Job, Phase, Role

MOST_JOBS = 10_000
"""More are not listed: an answer stays within a few megabytes."""


@dataclass(frozen=True, slots=True)
class JobLine:
    """One job. Times are seconds since the epoch, None when unknown; ``wait``: seconds in the queue,
    so far or until it ran. ``job`` is its name here (s0-0, w3-4), ``native`` the batch system's."""

    job: str
    native: str
    backend: str
    role: str
    group: str
    phase: str
    exit: str | None
    reason: str
    node: str
    submitted: float | None
    since: float | None
    expected: float | None
    ends: float | None
    wait: float | None


_KEYS = tuple(field.name for field in fields(JobLine))


def as_json(line: JobLine) -> dict[str, object]:
    """As the API says it; ``asdict`` takes ten times as long, which counts with thousands."""
    return {key: getattr(line, key) for key in _KEYS}


def job_lines(entry: Entry, sites: Mapping[str, Site], wall: float) -> list[JobLine]:
    """A cluster's jobs, the oldest batch first."""
    lines: list[JobLine] = []
    for line in _all(entry, sites, wall):
        lines.append(line)
        if len(lines) == MOST_JOBS:
            break
    return lines


def _all(entry: Entry, sites: Mapping[str, Site], wall: float) -> Iterator[JobLine]:
    shown = {name: site.jobs_of(entry.cluster.name) for name, site in sites.items()}
    rows = {**entry.closed, **{number: tracked.row for number, tracked in entry.rows.items()}}
    for sequence, row in sorted(rows.items()):
        jobs = shown.get(row.backend, {}).get(sequence, {})
        for index in sorted(jobs):
            yield _line(row, jobs[index], wall)


def _line(row: BatchRow, job: Job, wall: float) -> JobLine:
    scheduler = row.group == SCHEDULER
    submitted = row.intended_at if job.submitted is None else job.submitted
    waits = job.phase in (Phase.QUEUED, Phase.HELD)
    until = wall if waits else job.since
    return JobLine(
        job=f"{'s' if scheduler else 'w'}{row.sequence}-{job.index}",
        native=job.native,
        backend=row.backend,
        role=(Role.SCHEDULER if scheduler else Role.WORKER).value,
        group=row.group,
        phase=job.phase.value,
        exit=None if job.exit is None else job.exit.value,
        reason=printable(job.reason).strip(),
        node=printable(job.node),
        submitted=submitted,
        since=job.since,
        expected=job.expected if waits else None,
        ends=job.ends,
        wait=None if until is None else max(0.0, until - submitted),
    )
