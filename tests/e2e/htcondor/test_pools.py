"""Two pools of different ages in one gateway, each with its own commands and configuration."""

from __future__ import annotations

import re

import pytest

from rigs.condor_clusters import backend, events, jobs, profile, running, scale, serving
from rigs.facility import running_facility
from rigs.gateway import wait_until


@pytest.fixture(scope="module")
def facility(unix_users, condor_pool, newer_condor_pool):
    config = backend("htcondor", condor_pool) + backend("newer", newer_condor_pool)
    config += profile("htcondor")
    config += profile("newer", "newer", default="newer", old="htcondor")
    with running_facility(unix_users, config) as facility:
        yield facility


def version(pool) -> tuple[int, ...]:
    text = pool.run("condor_version").stdout
    return tuple(map(int, re.search(r"CondorVersion: (\d+)\.(\d+)", text).groups()))


def test_a_cluster_on_each_and_one_on_both(facility, condor, newer_condor):
    old, new = condor, newer_condor
    assert version(old) < version(new)
    with (
        running(facility, "newer") as (_, both, dask),
        running(facility) as (_, plain, other),
    ):
        plain.scale(1)
        scale(facility, both.name, "default", 2)
        scale(facility, both.name, "old", 1)
        wait_until(lambda: len(serving(dask)) == 3, "all three serve", 120)
        wait_until(lambda: len(serving(other)) == 1, "and the other one", 120)
        assert len(jobs(new, both.name)) == 2
        assert len(jobs(new, both.name, "scheduler")) == 1
        assert len(jobs(old, both.name)) == len(jobs(old, plain.name)) == 1
        assert len(jobs(old, plain.name, "scheduler")) == 1
        assert not jobs(new, plain.name)
        done = dask.submit(sum, [1, 2], pure=False, workers=[next(iter(serving(dask)))])
        assert done.result(timeout=60) == 3

        # The newer one hangs, which is nothing to the older one.
        with new.hanging("schedd"):
            plain.scale(2)
            wait_until(lambda: len(serving(other)) == 2, "more of the older one's", 120)
        old.run("condor_rm", *jobs(old, both.name), user=facility.alice)
        removed, *_ = jobs(new, both.name)
        new.run("condor_rm", removed, user=facility.alice)
        new.run("condor_hold", *set(jobs(new, both.name)) - {removed}, user=facility.alice)
        first = {"w1-0", "w1-1", "w2-0"}
        wait_until(lambda: len(serving(dask) - first) == 3, "three others", 120)
        told = " ".join(events(facility, both.name, "worker-exit"))
        assert told.count(f"via condor_rm (by user {facility.alice})") == 2
        assert "via condor_hold" in told
    for pool in (old, new):
        wait_until(lambda p=pool: not p.living(), "no job is left")
