"""Daemons of HTCondor die, hang and are restarted: no job is doubled, none is orphaned, no cluster
fails for it, and users read what is going on.
"""

from __future__ import annotations

from dask_gateway.client import ClusterStatus

from rigs.condor_clusters import events, jobs, running, serving, told
from rigs.gateway import wait_until


def is_running(gateway, cluster) -> bool:
    return gateway.get_cluster(cluster.name).status is ClusterStatus.RUNNING


def add(dask_client) -> int:
    return dask_client.submit(sum, [1, 2], pure=False).result(timeout=60)


def test_a_schedd_that_dies_and_one_that_is_restarted(facility, condor):
    with running(facility) as (gateway, cluster, dask):
        cluster.scale(2)
        dask.wait_for_workers(2, timeout=120)
        first, theirs = serving(dask), jobs(condor, cluster.name)
        condor.kill("schedd")
        cluster.scale(3)
        dask.wait_for_workers(3, timeout=120)
        with condor.without("schedd"):
            cluster.scale(4)
            told(facility, cluster.name, "HTCondor")
            assert add(dask) == 3
            assert is_running(gateway, cluster)
        dask.wait_for_workers(4, timeout=120)
        assert first < serving(dask)
        assert set(theirs) < set(jobs(condor, cluster.name))
        assert len(jobs(condor, cluster.name)) == 4
        assert not events(facility, cluster.name, "worker-exit")
        cluster.scale(1)
        wait_until(lambda: len(jobs(condor, cluster.name)) == 1, "removals are obeyed")
        ran = condor.queue(
            "NumJobStarts", constraint=f'JobBatchName == "dask-worker-{cluster.name}"'
        )
        assert {ad["NumJobStarts"] for ad in ran} <= {0, 1}, "it is counted late"
    wait_until(lambda: not condor.living(), "no job is left")


def test_a_schedd_that_hangs_keeps_nobody_else_waiting(facility, condor):
    with (
        facility.client(facility.alice) as gateway,
        gateway.new_cluster(profile="htcondor") as doomed,
    ):
        doomed.scale(1)
        wait_until(lambda: jobs(condor, doomed.name), "it has a worker")
        with condor.hanging("schedd"):
            name = gateway.submit(profile="htcondor")
            told(facility, name, "condor_submit did not end in time")
            gateway.stop_cluster(doomed.name)
            with gateway.new_cluster(profile="small") as other, other.get_client() as dask:
                other.scale(1)
                assert add(dask) == 3
            assert gateway.get_cluster(name).status is ClusterStatus.PENDING
        with gateway.connect(name, shutdown_on_close=True) as cluster:
            assert len(jobs(condor, name, "scheduler")) == 1
            wait_until(lambda: not jobs(condor, doomed.name), "the other one's worker is gone")
            wait_until(lambda: not jobs(condor, doomed.name, "scheduler"), "and its scheduler")
            assert is_running(gateway, cluster)
    wait_until(lambda: not condor.living(), "no job is left")


def test_a_machine_that_dies_while_nobody_hands_out_others(facility, condor):
    with (
        running(facility, "near") as (gateway, cluster, dask),
        gateway.new_cluster(profile="near") as other,  # news of one may be a minute apart
    ):
        cluster.scale(2)
        dask.wait_for_workers(2, timeout=120)
        first, old = serving(dask), jobs(condor, cluster.name)
        with condor.without("negotiator"):
            other.scale(1)
            wait_until(lambda: jobs(condor, other.name), "it is submitted")
            condor.kill("startd")
            told(facility, cluster.name, "2 workers are in an unclear state in htcondor: the mach")
            told(facility, other.name, "1 worker waits in htcondor: HTCondor has not looked for a")
            told(facility, cluster.name, "lost", 120)
            wait_until(lambda: not set(old) & set(jobs(condor, cluster.name)), "they are over")
            wait_until(lambda: len(jobs(condor, cluster.name)) == 2, "others wait")
            assert not serving(dask)
            assert is_running(gateway, cluster)
        wait_until(lambda: len(serving(dask)) == 2, "they are replaced", 120)
        assert not first & serving(dask), "no name runs twice"
        assert len(jobs(condor, cluster.name)) == 2
        assert add(dask) == 3
    wait_until(lambda: not condor.living(), "no job is left")


def test_a_queue_that_is_full(facility, condor):
    condor.remove_all()  # those that are over count, too
    with (
        condor.configured(MAX_JOBS_PER_OWNER="3"),
        running(facility, "near") as (gateway, cluster, dask),
    ):
        cluster.scale(5)
        told(facility, cluster.name, "HTCondor takes no more jobs now: ")
        assert "MAX_JOBS_PER_OWNER" in " ".join(events(facility, cluster.name))
        dask.wait_for_workers(1, timeout=120)
        assert len(jobs(condor, cluster.name)) <= 3
        assert not events(facility, cluster.name, "group-stopped")
        assert is_running(gateway, cluster)
    wait_until(lambda: not condor.living(), "no job is left")
