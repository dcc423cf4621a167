"""The unmodified client on a real Slurm: clusters run, are scaled, and survive what befalls them.

Jobs are those of two Unix users; what Slurm shows is asked of Slurm itself.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import time

import pytest
from dask_gateway.client import ClusterStatus, GatewayClusterError

from rigs.gateway import wait_until
from rigs.slurm_clusters import (
    ALIVE,
    as_user,
    by_value,
    events,
    jobs,
    running,
    serving,
    wait_for_clean_nodes,
)


def look_around():
    """What a job sees of itself."""
    import os

    return {
        "uids": os.getresuid(),
        "groups": sorted(os.getgroups()),
        "env": dict(os.environ),
        "mode": os.stat(".").st_mode & 0o7777,
    }


def test_a_cluster_works_as_its_user_and_leaves_nothing(facility, slurm):
    nasty = "a\nb\r\n'c' \"d\" $(id) `id` \\ é"
    with running(facility, env={"NASTY": nasty, "BASH_FUNC_x%%": "() { :; }"}) as (
        _,
        cluster,
        dask,
    ):
        cluster.scale(4)
        dask.wait_for_workers(4, timeout=120)
        assert len(jobs(slurm, cluster.name)) == 4
        assert len({name.split("_")[0] for name in jobs(slurm, cluster.name)}) == 1
        assert len(jobs(slurm, cluster.name, "scheduler")) == 1
        assert set(slurm.squeue("UserName", states=ALIVE)) == {(facility.alice,)}
        account = pwd.getpwnam(facility.alice)
        for seen in dask.run(by_value(look_around)).values():
            assert seen["uids"] == (account.pw_uid,) * 3
            assert seen["groups"] == sorted(os.getgrouplist(facility.alice, account.pw_gid))
            assert seen["env"]["NASTY"] == nasty
            assert seen["mode"] == 0o700
            assert not [name for name in seen["env"] if name.startswith("SLURM")]
        assert sum(dask.gather(dask.map(lambda x: x * x, range(100), pure=False))) == 328350
        path = f"/api/v1/clusters/{cluster.name}/logs?job=s0-0"
        assert "Scheduler at" in facility.ask(facility.alice, "GET", path)[1]
        cluster.scale(1)
        wait_until(lambda: len(jobs(slurm, cluster.name)) == 1, "three workers left")
        assert dask.submit(lambda: 7, pure=False).result(timeout=60) == 7
    wait_until(lambda: not slurm.squeue("JobID", states=ALIVE), "no job is left")
    wait_for_clean_nodes(slurm)


def test_a_worker_that_is_cancelled_in_slurm_is_replaced(facility, slurm):
    with running(facility) as (_, cluster, dask):
        cluster.scale(2)
        dask.wait_for_workers(2, timeout=120)
        before, victim = serving(dask), jobs(slurm, cluster.name)[0]
        assert as_user(slurm, facility.alice, "scancel", victim).returncode == 0
        wait_until(lambda: serving(dask) - before, "another worker serves", 120)
        dask.wait_for_workers(2, timeout=120)
        assert "cancelled" in " ".join(events(facility, cluster.name, "worker-exit"))
        assert victim not in jobs(slurm, cluster.name)


def test_a_scheduler_that_is_cancelled_in_slurm_fails_its_cluster_with_slurms_words(
    facility, slurm
):
    with running(facility) as (gateway, cluster, dask):
        cluster.scale(1)
        dask.wait_for_workers(1, timeout=120)
        [scheduler] = jobs(slurm, cluster.name, "scheduler")
        dask.close()
        assert as_user(slurm, facility.alice, "scancel", scheduler).returncode == 0
        failed = ClusterStatus.FAILED
        wait_until(lambda: gateway.get_cluster(cluster.name).status is failed, "it failed")
        reason = events(facility, cluster.name, "failed")[0]
        assert "was cancelled from outside: Slurm says CANCELLED" in reason
    wait_until(lambda: not slurm.squeue("JobID", states=ALIVE), "no job is left")


def test_what_slurm_refuses_is_told_in_its_words(facility):
    with facility.client(facility.alice) as gateway, pytest.raises(GatewayClusterError) as caught:
        gateway.new_cluster(profile="misled")
    assert "Slurm refused the job: invalid partition specified: nowhere" in str(caught.value)


def test_a_python_that_is_not_on_the_node_is_told(facility):
    with facility.client(facility.alice) as gateway, pytest.raises(GatewayClusterError) as caught:
        gateway.new_cluster(profile="absent")
    assert "its Python /nowhere/bin/python is not there" in str(caught.value)


def test_a_submission_without_an_answer_is_neither_lost_nor_doubled(facility, slurm):
    with running(facility) as (gateway, cluster, dask):
        cluster.scale(1)
        dask.wait_for_workers(1, timeout=120)
        with slurm.hanging_controller():
            cluster.scale(3)
            wait_until(lambda: events(facility, cluster.name, "uncertain"), "it is uncertain")
            time.sleep(6)  # longer than its jobs may take to show: nothing may follow from silence
            assert gateway.get_cluster(cluster.name).status is ClusterStatus.RUNNING
        dask.wait_for_workers(3, timeout=120)
        wait_until(lambda: len(jobs(slurm, cluster.name)) == 3, "three jobs")
        names = slurm.squeue("Name", "ArrayJobID")
        arrays = {base for name, base in names if name == f"dask-worker-{cluster.name}"}
        assert len(arrays) == 2, "one for each scaling"


@pytest.mark.parametrize(
    ("daemon", "words"),
    [
        ("controller", "Unable to contact slurm controller"),
        ("munge", "Protocol authentication error"),
    ],
)
def test_a_dead_daemon_fails_no_cluster(facility, slurm, daemon, words):
    with running(facility) as (gateway, cluster, dask):
        cluster.scale(1)
        dask.wait_for_workers(1, timeout=120)
        with slurm.dead_controller() if daemon == "controller" else slurm.dead_munge():
            cluster.scale(2)
            waits = wait_until(lambda: events(facility, cluster.name, "unavailable"), "it waits")
            assert words in waits[0]
            assert dask.submit(lambda: 1, pure=False).result(timeout=60) == 1
            assert gateway.get_cluster(cluster.name).status is ClusterStatus.RUNNING
        dask.wait_for_workers(2, timeout=120)
        wait_until(lambda: len(jobs(slurm, cluster.name)) == 2, "two jobs")
        assert not events(facility, cluster.name, "worker-exit")


def test_users_do_not_reach_each_others_jobs(facility, slurm):
    with running(facility) as (_, cluster, _dask):
        [scheduler] = jobs(slurm, cluster.name, "scheduler")
        done = as_user(slurm, facility.bob, "scancel", scheduler)
        assert "denied" in done.stderr
        script = as_user(slurm, facility.bob, "scontrol", "write", "batch_script", scheduler, "-")
        assert "Invalid user id" in script.stderr  # and exits 0
        assert "PENSTOCK" not in script.stdout
        mine = as_user(slurm, facility.alice, "scontrol", "write", "batch_script", scheduler, "-")
        assert "PENSTOCK" in mine.stdout
        token = json.loads(_file_of(slurm, cluster.name))["token"]
        assert token not in mine.stdout
        shown = as_user(slurm, facility.bob, "scontrol", "show", "job", "-dd").stdout
        lines = subprocess.run(["ps", "axeww"], capture_output=True, text=True).stdout
        assert token not in shown + lines
        status, _, _ = facility.ask(facility.bob, "GET", f"/api/v1/clusters/{cluster.name}")
        assert status == 404


def _file_of(slurm, cluster: str) -> str:
    """The confidential file of a scheduler; only root and its user can."""
    place = next((slurm.directory / "scratch").glob(f"penstock-p-*-{cluster}-0-0.*"))
    assert place.stat().st_mode & 0o777 == 0o700
    path = place / "job" / "penstock.json"
    assert path.stat().st_mode & 0o777 == 0o600
    return path.read_text()
