"""The unmodified client on a real HTCondor pool: clusters run, are scaled, and survive what befalls
them. What HTCondor shows is asked of HTCondor itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import types

import pytest
from dask_gateway.client import ClusterStatus, GatewayClusterError

from rigs.gateway import wait_until


def jobs(condor, cluster: str, role: str = "worker") -> list[str]:
    """``cluster.proc`` of a cluster's living jobs."""
    shown = condor.living(f'JobBatchName == "dask-{role}-{cluster}"')
    return sorted(f"{ad['ClusterId']}.{ad['ProcId']}" for ad in shown)


def events(facility, cluster: str, kind: str) -> list[str]:
    status, text, _ = facility.ask(facility.alice, "GET", f"/api/v1/clusters/{cluster}/events")
    assert status == 200
    return [event["text"] for event in json.loads(text)["events"] if event["kind"] == kind]


def serving(dask_client) -> set[str]:
    return {one["name"] for one in dask_client.scheduler_info(n_workers=-1)["workers"].values()}


def by_value(function):
    """The same function as no importable one, so that jobs need not have these tests."""
    copy = types.FunctionType(function.__code__, {"__builtins__": __builtins__}, function.__name__)
    copy.__module__ = "__main__"
    return copy


def look_around():
    """What a job sees of itself."""
    import os

    return {
        "uids": os.getresuid(),
        "groups": sorted(os.getgroups()),
        "env": dict(os.environ),
        "mode": os.stat(".").st_mode & 0o7777,
    }


@contextlib.contextmanager
def running(facility, **options):
    """A cluster of alice's, and a Dask client of it."""
    with (
        facility.client(facility.alice) as gateway,
        gateway.new_cluster(profile="htcondor", **options) as cluster,
        cluster.get_client() as dask_client,
    ):
        yield gateway, cluster, dask_client


def test_a_cluster_works_as_its_user_and_leaves_nothing(facility, condor):
    nasty = "a\nb\r\n'c' \"d\" $(id) `id` \\ é $(ProcId) $$(Name)"
    with running(facility, env={"NASTY": nasty, "BASH_FUNC_x%%": "() { :; }"}) as (
        _,
        cluster,
        dask,
    ):
        cluster.scale(4)
        dask.wait_for_workers(4, timeout=120)
        assert len(jobs(condor, cluster.name)) == 4
        assert len({name.split(".")[0] for name in jobs(condor, cluster.name)}) == 1
        assert len(jobs(condor, cluster.name, "scheduler")) == 1
        assert {ad["Owner"] for ad in condor.living()} == {facility.alice}
        account = pwd.getpwnam(facility.alice)
        for seen in dask.run(by_value(look_around)).values():
            assert seen["uids"] == (account.pw_uid,) * 3
            assert seen["groups"] == sorted(os.getgrouplist(facility.alice, account.pw_gid))
            assert seen["env"]["NASTY"] == nasty
            assert seen["mode"] == 0o700
            assert "OMP_NUM_THREADS" not in seen["env"]
            assert not [name for name in seen["env"] if "CONDOR" in name]
        assert sum(dask.gather(dask.map(lambda x: x * x, range(100), pure=False))) == 328350
        path = f"/api/v1/clusters/{cluster.name}/logs?job=s0-0"
        assert "Scheduler at" in facility.ask(facility.alice, "GET", path)[1]
        cluster.scale(1)
        wait_until(lambda: len(jobs(condor, cluster.name)) == 1, "three workers left")
        assert dask.submit(lambda: 7, pure=False).result(timeout=60) == 7
        cluster.adapt(minimum=2, maximum=3)
        wait_until(lambda: len(jobs(condor, cluster.name)) == 2, "adapted")
    wait_until(lambda: not condor.living(), "no job is left")
    wait_until(lambda: not list(condor.directory.glob("execute/dir_*")), "nor a directory of one")


def test_what_befalls_workers_is_told_and_mended(facility, condor):
    with running(facility) as (_, cluster, dask):
        cluster.scale(3)
        dask.wait_for_workers(3, timeout=120)
        first = serving(dask)
        removed, held, evicted = jobs(condor, cluster.name)
        condor.run("condor_rm", removed, user=facility.alice)
        condor.run("condor_hold", held, user=facility.alice)
        condor.run("condor_vacate_job", "-fast", evicted, user=facility.alice)
        wait_until(lambda: len(serving(dask) - first) == 3, "three others serve", 120)
        wait_until(lambda: len(jobs(condor, cluster.name)) == 3, "three jobs, and no more", 60)
        told = " ".join(events(facility, cluster.name, "worker-exit"))
        assert f"via condor_rm (by user {facility.alice})" in told
        assert f"via condor_hold (by user {facility.alice})" in told
        assert "evicted" in told
        assert not {removed, held, evicted} & set(jobs(condor, cluster.name))


def test_a_scheduler_that_is_removed_fails_its_cluster_with_htcondors_words(facility, condor):
    with running(facility) as (gateway, cluster, dask):
        cluster.scale(1)
        dask.wait_for_workers(1, timeout=120)
        [scheduler] = jobs(condor, cluster.name, "scheduler")
        dask.close()
        condor.run("condor_rm", scheduler, user=facility.alice)
        failed = ClusterStatus.FAILED
        wait_until(lambda: gateway.get_cluster(cluster.name).status is failed, "it failed")
        reason = events(facility, cluster.name, "failed")[0]
        assert "via condor_rm" in reason
    wait_until(lambda: not condor.living(), "no job is left")


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("misled", "HTCondor refused the job: unable to read proxy file"),
        ("absent", r"its Python .*is not there on the node"),
    ],
)
def test_what_cannot_run_is_told(facility, condor, profile, words):
    with (
        facility.client(facility.alice) as gateway,
        pytest.raises(GatewayClusterError, match=words),
    ):
        gateway.new_cluster(profile=profile)


def test_a_submission_without_an_answer_is_neither_lost_nor_doubled(facility, condor):
    with running(facility) as (gateway, cluster, dask):
        cluster.scale(1)
        dask.wait_for_workers(1, timeout=120)
        with condor.hanging("schedd"):
            cluster.scale(3)
            wait_until(lambda: events(facility, cluster.name, "uncertain"), "it is uncertain")
            assert gateway.get_cluster(cluster.name).status is ClusterStatus.RUNNING
            assert dask.submit(lambda: 1, pure=False).result(timeout=60) == 1
        dask.wait_for_workers(3, timeout=120)
        wait_until(lambda: len(jobs(condor, cluster.name)) == 3, "three jobs")
