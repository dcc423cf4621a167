"""Jobs on hold: whose hold it is decides whether a job is kept or replaced, and users read why."""

from __future__ import annotations

import pytest
from dask_gateway.client import ClusterStatus, GatewayClusterError

from rigs.condor_clusters import events, jobs, running, scale, serving, told
from rigs.gateway import wait_until

WORDS = "reading from file /nowhere/data: (errno 2) No such file or directory"


def test_a_worker_that_a_person_holds_is_kept_and_one_that_cannot_start_is_not(facility, condor):
    with running(facility, "near") as (_, cluster, _):
        scale(facility, cluster.name, "spoiled", 2)
        told(facility, cluster.name, "No more workers of group spoiled are started", 120)
        [stopped] = events(facility, cluster.name, "group-stopped")
        assert "HTCondor held it: Transfer input files failure" in stopped
        assert WORDS in stopped
        wait_until(lambda: not jobs(condor, cluster.name), "HTCondor removes them itself")

    # Another one, as news of one cluster's waits may be a minute apart.
    with running(facility, "near") as (_, cluster, dask):
        with condor.without("negotiator"):
            cluster.scale(1)
            wait_until(lambda: jobs(condor, cluster.name), "it is submitted")
            [job] = jobs(condor, cluster.name)
            condor.run("condor_hold", "-reason", "please call carol", job)
            told(facility, cluster.name, "1 worker is held in htcondor: please call carol")
        condor.run("condor_release", job)
        dask.wait_for_workers(1, timeout=120)
        assert jobs(condor, cluster.name) == [job], "the same one"
        [name] = serving(dask)

        condor.run("condor_hold", "-reason", "it writes too much", job)
        told(facility, cluster.name, f"{name} was cancelled from outside: HTCondor held it")
        wait_until(lambda: serving(dask) and name not in serving(dask), "it is replaced", 120)
        assert "it writes too much" in " ".join(events(facility, cluster.name, "worker-exit"))
    wait_until(lambda: not condor.living(), "no job is left")


def test_schedulers_on_hold(facility, condor):
    with (
        facility.client(facility.alice) as gateway,
        pytest.raises(GatewayClusterError) as caught,
    ):
        gateway.new_cluster(profile="unfetched")
    assert WORDS in str(caught.value)
    with facility.client(facility.alice) as gateway, condor.without("negotiator"):
        name = gateway.submit(profile="htcondor")
        wait_until(lambda: jobs(condor, name, "scheduler"), "it is submitted")
        [job] = jobs(condor, name, "scheduler")
        condor.run("condor_hold", job, user=facility.alice)
        told(facility, name, "the scheduler is held in htcondor: via condor_hold (by user")
        assert gateway.get_cluster(name).status is ClusterStatus.PENDING
        gateway.stop_cluster(name)
        wait_until(lambda: not jobs(condor, name, "scheduler"), "held jobs are removed, too")
