"""The doctor's jobs: one of a single task for each kind that profiles know, through the five verbs.

So it is the very way that users' jobs take: what stands between a gateway and its nodes (rights,
a plugin that rewrites comments, firewalls, a Python that is not there) meets the probe as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import json
import time
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass

from penstock.backends import probe_job
from penstock.backends.base import Backend
from penstock.backends.insight import Finding, Verdict
from penstock.model.demand import Demand
from penstock.model.errors import BackendError, Unavailable
from penstock.model.ids import BatchId, new_cluster_name
from penstock.model.job import Batch, Exit, Job, Phase, Resources, Role

MOST = 8
"""Jobs of one doctor's visit."""

PAUSE = 0.5
"""Seconds between two looks."""

GOING = 20.0
"""Seconds that cancelled jobs have to go, so that their directories can be deleted."""

LEAST_MEMORY = 2**30
"""Bytes; importing distributed takes a quarter of it."""

_FAR = {
    probe_job.SOME: "reaches only some of the addresses {servers}",
    probe_job.UNREACHED: "cannot reach the gateway at {servers}",
    probe_job.UNRESOLVED: "does not know the host of {servers}",
    probe_job.UNTRUSTED: "does not trust the certificate at {servers}",
    probe_job.STRANGE: "reaches something at {servers} that is not this gateway",
}
_FAR_ADVICE = {
    probe_job.UNTRUSTED: "set server.ca_file to the CA of the certificate",
    probe_job.UNRESOLVED: "use an address, or a name that the nodes can resolve, in server.agent_url",
}
_UNFIT = {
    probe_job.ABSENT: ("has no dask or distributed", "install dask and distributed there"),
    probe_job.OLD: ("is too old", "Dask clusters need Python 3.8 or newer"),
    probe_job.BROKEN: ("cannot import dask and distributed", "repair that environment"),
}


@dataclass(frozen=True, slots=True)
class Probe:
    """As whom the jobs run, which URLs they shall try to reach, and what they trust (PEM)."""

    owner: str
    servers: Sequence[str]
    ca: str | None = None


def kinds(demands: Sequence[Demand]) -> list[Demand]:
    """Those that differ in where they run or in what runs them."""
    found: list[Demand] = []
    for demand in demands:
        if not any((demand.python, demand.extras) == (f.python, f.extras) for f in found):
            found.append(demand)
    return found


async def run(
    backend: Backend, gateway: str, demands: Sequence[Demand], probe: Probe, patience: float
) -> AsyncIterator[Finding]:
    """Submit a job for each kind, and tell what each found; none is left after ``patience`` seconds.

    ``gateway``: an id that is no gateway's, or its server would cancel the jobs as strangers.
    """
    waiting: dict[BatchId, Demand] = {}
    tried = kinds(demands)
    if len(tried) > MOST:
        found = (
            f"{len(tried) - MOST} kinds of {len(tried)} are not tried, as those of "
            + ", ".join(demand.name for demand in tried[MOST:])
        )
        yield Finding(Verdict.WARNING, "jobs on nodes", found)
    try:
        for demand in tried[:MOST]:
            batch = _batch(gateway, demand, probe)
            try:
                await backend.submit(batch)
            except BackendError as error:
                advice = "this is what a user would read; see the findings above"
                yield Finding(Verdict.BAD, f"job of {demand.name}", str(error), advice)
            else:
                waiting[batch.id] = demand
        async for finding in _results(backend, waiting, probe, patience):
            yield finding
    finally:
        await _clean(backend, gateway, waiting)


def _batch(gateway: str, demand: Demand, probe: Probe) -> Batch:
    told = json.dumps({"servers": list(probe.servers), "ca": probe.ca})
    source = importlib.resources.files(__package__).joinpath("probe_job.py").read_bytes()
    usual = demand.resources
    return Batch(
        id=BatchId(gateway, new_cluster_name(), 0),
        owner=probe.owner,
        role=Role.WORKER,
        count=1,
        command=(demand.python, "probe.py"),
        env=demand.env,
        files={"probe.py": source, "probe.json": told.encode()},
        resources=Resources(usual.cores, min(usual.memory, LEAST_MEMORY), usual.gpus),
        extras=demand.extras,
    )


async def _results(
    backend: Backend, waiting: dict[BatchId, Demand], probe: Probe, patience: float
) -> AsyncIterator[Finding]:
    """As the jobs end. Takes those that are told out of ``waiting``."""
    deadline = time.monotonic() + patience
    last: dict[BatchId, Job] = {}
    trouble = ""
    left = dict(waiting)
    while left and time.monotonic() < deadline:
        try:
            jobs = (await backend.observe()).jobs
        except Unavailable as error:
            trouble, jobs = str(error), ()
        last.update((job.batch, job) for job in jobs)
        for batch in [batch for batch in left if batch in last and not last[batch].alive]:
            said = ""
            with contextlib.suppress(BackendError):
                said = await backend.logs(last[batch], tail=2000)
            yield judge(last[batch], left.pop(batch), probe, said)
        await asyncio.sleep(PAUSE if left else 0)
    for batch, demand in left.items():
        yield overdue(last.get(batch), demand, patience, trouble)


def judge(job: Job, demand: Demand, probe: Probe, said: str = "") -> Finding:
    """What the end of a job tells. ``said``: its output, as far as it can be seen. Pure."""
    what = f"job of {demand.name}" + (f" on {job.node}" if job.node else "")
    servers = ", ".join(probe.servers)
    if job.exit is Exit.DONE:
        return Finding(Verdict.GOOD, what, f"reaches {servers}; {demand.python} has distributed")
    far, fit = divmod((job.exit_code or 0) - probe_job.BASE, probe_job.PYTHONS)
    if far not in (probe_job.REACHED, *_FAR):
        found = job.reason or f"ended as {job.exit.value if job.exit else 'unknown'}"
        return Finding(Verdict.BAD, what, found, f"is {demand.python} on that node?")
    parts, advice = [], []
    if far:
        parts.append(_FAR[far].format(servers=servers))
        advice.append(
            _FAR_ADVICE.get(far, "check server.agent_url, and firewalls between node and gateway")
        )
    if fit:
        parts.append(f"its Python, {demand.python}, {_UNFIT[fit][0]}")
        advice.append(_UNFIT[fit][1])
    words = " ".join(line.strip() for line in said.strip().splitlines())
    found = "; ".join(parts) + (f" ({words})" if words else "")
    verdict = Verdict.WARNING if (far, fit) == (probe_job.SOME, probe_job.FIT) else Verdict.BAD
    return Finding(verdict, what, found, "; ".join(advice))


def overdue(job: Job | None, demand: Demand, patience: float, trouble: str) -> Finding:
    """What it means that a job has not ended. Pure."""
    what = f"job of {demand.name}"
    if job is None:
        found = f"was taken, and cannot be seen after {patience:.0f} s" + (
            f" ({trouble})" if trouble else ""
        )
        advice = (
            "does something overwrite the tags (comments) of jobs, or hide them from this user?"
        )
        return Finding(Verdict.BAD, what, found, advice)
    reason = f": {job.reason}" if job.reason else ""
    if job.phase is Phase.QUEUED:
        found = f"still waits in the queue after {patience:.0f} s{reason}"
        return Finding(Verdict.WARNING, what, found, "try again, or with a larger --patience")
    found = f"is {job.phase.value} after {patience:.0f} s{reason}"
    return Finding(Verdict.BAD, what, found, "look at the node, or at why it is held")


async def _clean(backend: Backend, gateway: str, batches: Collection[BatchId]) -> None:
    """Nothing of ours stays in the queue; what cannot be cancelled now ends by itself."""
    with contextlib.suppress(BackendError):
        left = await _left(backend, gateway)
        await backend.cancel(left)
        deadline = time.monotonic() + GOING
        while left and time.monotonic() < deadline:
            await asyncio.sleep(PAUSE)
            left = await _left(backend, gateway)
    for batch in batches:
        with contextlib.suppress(BackendError):
            await backend.forget(batch.cluster)


async def _left(backend: Backend, gateway: str) -> list[Job]:
    jobs = (await backend.observe()).jobs
    return [job for job in jobs if job.alive and job.batch.gateway == gateway]
