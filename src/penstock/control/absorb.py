"""Take a look into what is known of a cluster's rows: who was seen, who runs and since when.

Run times are kept here for two ends: the worker start timeout, and the line of accounting that a
closed batch leaves.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.control.facts import Jobs, Look, Tracked
from penstock.control.launch import group_spec
from penstock.model.cluster import Cluster
from penstock.model.job import Job, Phase
from penstock.model.usage import Usage

_NO_JOBS: Mapping[int, Job] = {}


def absorb(tracked: Tracked, jobs: Jobs, look: Look, *, wall: float, now: float) -> None:
    """Note what the last look shows of one row. ``wall``: ``now`` in seconds since the epoch."""
    shown = jobs.get(tracked.row.sequence, _NO_JOBS)
    tracked.seen.update(shown)
    for index, job in shown.items():
        if job.phase is Phase.ENDING:
            tracked.ending.setdefault(index, now)
        else:
            tracked.ending.pop(index, None)
        if job.phase is Phase.RUNNING and index not in tracked.ran:
            # Limits count what we have seen; a wall clock may be wrong. Accounting counts it all.
            tracked.ran[index] = now
            before = 0.0 if job.since is None else max(0.0, wall - job.since)
            tracked.job_seconds += before
            if tracked.first_ran is None or now - before < tracked.first_ran:
                tracked.first_ran = now - before
    over = [
        index
        for index in tracked.ran
        if not (shown[index].alive if index in shown else not look.complete)
    ]
    for index in over:
        tracked.job_seconds += now - tracked.ran.pop(index)
        tracked.registered.discard(index)


def usage(cluster: Cluster, tracked: Tracked, *, wall: float, now: float) -> Usage:
    """The line of accounting of a batch that is closed."""
    row = tracked.row
    resources = group_spec(cluster, row.group).resources
    still = sum(now - began for began in tracked.ran.values())
    began = now if tracked.first_ran is None else tracked.first_ran
    return Usage(
        cluster=cluster.name,
        user=cluster.user,
        group=row.group,
        backend=row.backend,
        workers=row.count,
        cores=resources.cores,
        memory=resources.memory,
        started_at=wall - (now - began),
        ended_at=wall,
        job_seconds=tracked.job_seconds + still,
    )
