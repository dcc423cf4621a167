"""Daemons of Slurm die and forget: no job is doubled, none is orphaned, and users know why they wait.

With a Slurm of its own, since what is broken here would be in the way of other tests.
"""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from dask_gateway.client import ClusterStatus

from penstock.backends.slurm.sudo import Sudo
from penstock.model.errors import Full
from penstock.model.ids import BatchId, new_cluster_name
from rigs.facility import running_facility
from rigs.gateway import wait_until
from rigs.slurm import Slurm
from rigs.slurm_acting import installed_helper
from rigs.slurm_clusters import (
    ALIVE,
    BACKEND,
    as_user,
    by_value,
    events,
    jobs,
    profile,
    running,
    scale,
    serving,
    told,
)
from rigs.slurm_sessions import need_slurm, started

MOST_JOBS = 60

KILLS_FOR_MEMORY = """\
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill"""
"""Without cgroups, which tests may not have, this is how Slurm keeps jobs to their memory."""

JOBS = """
[backends.slurm.jobs]
time = "30 min"
nodelist = "n1"
"""


@pytest.fixture(scope="module")
def slurm():
    need_slurm()
    yield from started(Slurm(most_jobs=MOST_JOBS, more=KILLS_FOR_MEMORY))


@pytest.fixture(scope="module")
def facility(unix_users, slurm):
    config = BACKEND.format(slurm=slurm) + JOBS
    config += profile("slurm", far='extras = {{ nodelist = "n2" }}')
    with running_facility(unix_users, config) as facility:
        yield facility


def test_a_controller_that_forgot_its_last_seconds(facility, slurm):
    with running(facility) as (gateway, cluster, dask):
        cluster.scale(1)
        dask.wait_for_workers(1, timeout=120)
        before = jobs(slurm, cluster.name)
        saved = slurm.directory / "state" / "job_state"
        came = time.time()
        slurm.run("scontrol", "update", f"jobid={before[0]}", "nice=1")  # or nothing is saved
        wait_until(lambda: saved.exists() and saved.stat().st_mtime > came, "it is saved")
        cluster.scale(2)
        wait_until(lambda: len(jobs(slurm, cluster.name)) == 2, "the second is submitted")
        [lost] = set(jobs(slurm, cluster.name)) - set(before)
        slurm.kill("slurmctld", signal.SIGKILL)
        slurm.start_controller()
        slurm.wait_for(lambda: slurm.run("squeue", check=False).returncode == 0, "it is back")
        words = ("-w", "n1", "--mem=50", "-o", "/dev/null", "--parsable", "--wrap", "sleep 300")
        theirs = as_user(slurm, facility.bob, "sbatch", *words).stdout.strip()
        assert theirs == lost.partition("_")[0], "the id is somebody else's now"
        told(facility, cluster.name, "", "is not in slurm any more")
        wait_until(lambda: len(serving(dask)) == 2, "it is replaced", 120)
        assert len(jobs(slurm, cluster.name)) == 2
        assert gateway.get_cluster(cluster.name).status is ClusterStatus.RUNNING
    wait_until(lambda: slurm.squeue("JobID", states=ALIVE) == [(theirs,)], "only theirs is left")
    slurm.cancel_all()


def test_a_nodes_daemon_dies_and_comes_back_without_the_user(facility, slurm):
    with running(facility) as (gateway, cluster, dask):
        scale(facility, cluster.name, "far", 1)
        dask.wait_for_workers(1, timeout=120)
        slurm.kill("n2", signal.SIGKILL)
        told(facility, cluster.name, "", "w1-0 was lost with its node")
        wait_until(lambda: jobs(slurm, cluster.name, states="PD"), "another one waits for it")
        slurm.start_node("n2", strangers=(facility.alice,))
        wait_until(lambda: "w1-0" not in serving(dask), "the old one is gone, too", 90)
        # The credential of a job says who the user is.
        wait_until(lambda: len(serving(dask)) == 1, "the next one serves all the same", 120)
        assert gateway.get_cluster(cluster.name).status is ClusterStatus.RUNNING
    wait_until(lambda: not slurm.squeue("JobID", states=ALIVE), "no job is left")
    wait_until(lambda: not slurm.strays(), "nor a process of one")


def greedy(marker):
    """Takes too much memory, but only the first time."""
    import os
    import time

    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "done"
    hoard = bytearray(1200 * 2**20)
    for at in range(0, len(hoard), 4096):
        hoard[at] = 1
    time.sleep(60)
    return "never"


def test_a_worker_that_takes_too_much_memory(facility, slurm):
    with running(facility) as (_, cluster, dask):
        cluster.scale(2)
        dask.wait_for_workers(2, timeout=120)
        marker = f"{slurm.directory}/scratch/greedy"
        greed = dask.submit(by_value(greedy), marker, workers=["w1-0"], allow_other_workers=True)
        told(facility, cluster.name, "", "w1-0 exited 137: killed by SIGKILL, maybe for its memory")
        assert greed.result(timeout=120) == "done", "somewhere else"
        wait_until(lambda: len(serving(dask)) == 2, "it is replaced", 120)


def test_a_queue_that_is_full(facility, slurm):
    with running(facility) as (gateway, cluster, dask):
        room = MOST_JOBS - len(slurm.squeue("JobID")) - 5
        slurm.run("sbatch", f"--array=0-{room - 1}", "--hold", "--mem=1", "--wrap", "true")
        cluster.scale(8)
        told(facility, cluster.name, "", "Slurm takes no more jobs now: Slurm temporarily unable")
        dask.wait_for_workers(1, timeout=120)
        assert len(jobs(slurm, cluster.name)) < 8
        assert not events(facility, cluster.name, "group-stopped")
        assert gateway.get_cluster(cluster.name).status is ClusterStatus.RUNNING

        # Another way to act for users tells the same, and does not wait two minutes as sbatch does.
        tag = BatchId("0123abcd", new_cluster_name(), 1).tag
        words = ["--array=0-99", f"--comment={tag}", "--chdir=/", "--mem=1", "--output=/dev/null"]
        with installed_helper(slurm) as helper, pytest.raises(Full, match="temporarily unable"):
            asyncio.run(Sudo(helper, timeout=60.0).submit(facility.alice, words, b"#!/bin/sh\n"))
