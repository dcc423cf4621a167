"""Whatever Slurm does to jobs, users read it as it is, lose no work, and get their workers back."""

from __future__ import annotations

import json

import pytest
from dask_gateway.client import ClusterStatus, GatewayClusterError

from rigs.gateway import wait_until
from rigs.slurm_clusters import (
    ALIVE,
    by_value,
    jobs,
    running,
    scale,
    serving,
    shown,
    told,
    wait_for_clean_nodes,
)


def array(slurm, cluster: str, sequence: int, task: int = 0) -> str:
    """``base_task`` of one worker; empty while it is not there."""
    found = [
        base
        for base, number, comment in slurm.squeue("ArrayJobID", "ArrayTaskID", "Comment")
        if comment.endswith(f"-{cluster}-{sequence}") and number == str(task)
    ]
    return f"{found[0]}_{task}" if found else ""


def address(dask, name: str) -> str:
    """Where a worker listens."""
    workers = dask.scheduler_info(n_workers=-1)["workers"].items()
    [found] = [address for address, worker in workers if worker["name"] == name]
    return found


def allowed_failures(dask_scheduler):
    return dask_scheduler.allowed_failures


def test_the_ends_of_jobs_are_told_for_what_they_are(facility, slurm):
    with running(facility, "states", shutdown_on_close=False) as (_, doomed, _):
        [scheduler] = jobs(slurm, doomed.name, "scheduler")
    slurm.run("scontrol", "update", f"jobid={scheduler}", "EndTime=now+1")
    with running(facility, "states") as (gateway, cluster, dask):
        name = cluster.name
        groups = ("default", 2), ("scavenge", 1), ("late", 1)
        for sequence, (group, count) in enumerate(groups, start=1):
            scale(facility, name, group, count)
            wait_until(lambda s=sequence: array(slurm, name, s), f"{group} is submitted")
        dask.wait_for_workers(3, timeout=120)
        assert dask.run_on_scheduler(by_value(allowed_failures)) == 10, "preemption is no bug"
        data = dask.scatter(list(range(20)), workers=[address(dask, "w2-0")], hash=False)

        # A start in an hour, and then none before an admin wishes, which is told in its time.
        told(facility, name, "waiting", "1 worker waits in slurm")
        slurm.run("scontrol", "hold", array(slurm, name, 3))

        urgent = ("-p", "urgent", "-w", "n2", "--exclusive", "-o", "/dev/null")
        slurm.run("sbatch", *urgent, "--wrap", "sleep 1")
        told(facility, name, "worker-exit", "w2-0 was preempted")
        wait_until(lambda: len(serving(dask)) == 3, "it was replaced", 120)
        assert dask.gather(data) == list(range(20)), "it handed its data over"
        assert gateway.get_cluster(name).status is ClusterStatus.RUNNING
        told(facility, name, "waiting", "1 worker is held in slurm: JobHeldAdmin", 120)

        # Run again by an admin: it is the same worker, which waits again.
        again = array(slurm, name, 1, 1)
        slurm.run("scontrol", "update", f"jobid={again}", "requeue=1")
        slurm.run("scontrol", "requeue", again)
        wait_until(lambda: "w1-1" not in serving(dask), "it is gone")
        wait_until(lambda: shown(facility, name)["w1-1"]["reason"] == "BeginTime", "it waits")
        assert shown(facility, name)["w1-1"]["phase"] == "queued"
        told(facility, doomed.name, "failed", "reached its time limit", 90)
    wait_until(lambda: not slurm.squeue("JobID", states=ALIVE), "no job is left")


def waits_until(facility, cluster: str) -> list[float]:
    """When the queued jobs of a cluster are expected to start, as far as Slurm says."""
    queued = [job for job in shown(facility, cluster).values() if job["phase"] == "queued"]
    return [job["expected"] for job in queued if job["expected"]]


def test_an_array_of_which_some_have_room(facility, slurm):
    with running(facility, "crowded") as (_, cluster, dask):
        cluster.scale(3)
        dask.wait_for_workers(2, timeout=120)
        told(facility, cluster.name, "waiting", "1 worker waits in slurm")
        [waiting] = jobs(slurm, cluster.name, states="PD")
        wait_until(lambda: waits_until(facility, cluster.name), "Slurm expects it at some time")
        there = serving(dask)
        cluster.scale(2)
        wait_until(lambda: waiting not in jobs(slurm, cluster.name), "who waits goes first")
        assert serving(dask) == there
    wait_until(lambda: not slurm.squeue("JobID", states=ALIVE), "no job is left")


def target(facility, cluster: str) -> int | None:
    """How many workers the scheduler wishes for."""
    status, text, _ = facility.ask(facility.alice, "GET", f"/api/v1/clusters/{cluster}/live")
    assert status == 200, text
    return json.loads(text)["report"]["target"]


def double(number):
    return 2 * number


def test_an_adaptive_cluster_keeps_its_places_in_the_queue(facility, slurm):
    theirs = ("-w", "n2", "--exclusive", "-o", "/dev/null", "--parsable", "--wrap", "sleep 600")
    others = slurm.run("sbatch", *theirs).stdout.strip()
    wait_until(lambda: slurm.squeue("JobID", states="R"), "the node is taken")
    with running(facility, "crowded") as (_, cluster, dask):
        name = cluster.name
        cluster.adapt(minimum=0, maximum=4)
        work = dask.map(by_value(double), range(100), pure=False)
        wait_until(lambda: jobs(slurm, name, states="PD"), "workers wait for the node")
        places = jobs(slurm, name)
        for _ in range(2):
            dask.cancel(work)
            wait_until(lambda: target(facility, name) == 0, "nothing is to be done")
            work = dask.map(by_value(double), range(100), pure=False)
            wait_until(lambda: target(facility, name), "something is to be done")
            assert jobs(slurm, name) == places
        slurm.run("scancel", others)
        assert dask.gather(work) == [2 * number for number in range(100)]
        shown = slurm.squeue("ArrayJobID", "Name")
        assert len({base for base, role in shown if role == f"dask-worker-{name}"}) == 1
    wait_until(lambda: not slurm.squeue("JobID", states=ALIVE), "no job is left")


def test_a_worker_that_is_suspended_and_goes_on(facility, slurm):
    with running(facility) as (_, cluster, dask):
        cluster.scale(1)
        dask.wait_for_workers(1, timeout=120)
        [worker] = jobs(slurm, cluster.name)
        slurm.run("scontrol", "suspend", worker)
        words = "SUSPENDED, goes on once it is resumed"
        told(
            facility,
            cluster.name,
            "waiting",
            f"1 worker is in an unclear state in slurm: {words}",
            150,
        )
        assert shown(facility, cluster.name)["w1-0"]["reason"] == words
        slurm.run("scontrol", "resume", worker)
        assert dask.submit(by_value(look_around)).result(timeout=60)
        assert serving(dask) == {"w1-0"}


def look_around():
    """What a worker sees of itself."""
    import os

    return os.getpid(), os.getcwd(), dict(os.environ)


def test_workers_share_jobs_after_the_sites_prolog(facility, slurm):
    with running(facility, "shared", env={"PATH": "/own/bin"}) as (_, cluster, dask):
        cluster.scale(5)
        dask.wait_for_workers(5, timeout=120)
        assert len(jobs(slurm, cluster.name)) == 2
        seen = list(dask.run(by_value(look_around)).values())
        assert len({directory for _, directory, _ in seen}) == 5
        for _, _, env in seen:
            assert env["OF_THE_SITE"] == "a b"
            assert env["PATH"].startswith("/site/bin:")
            assert env["PATH"].endswith(":/own/bin")

        # Their output is on the node, and what Dask logged comes through the scheduler.
        assert "Only what Dask logged" in output(facility, cluster.name, "w1-0")
        assert "Registered to" in output(facility, cluster.name, "w1-0")
        assert "Scheduler at" in output(facility, cluster.name, "s0-0")

        # One dies: Slurm cannot tell, its agent does.
        with_it = serving(dask)
        dask.run(by_value(die), workers=[address(dask, "w1-1")], on_error="ignore")
        wait_until(lambda: "w1-1" not in serving(dask), "it is gone")
        wait_until(lambda: len(serving(dask)) == 5, "it is replaced", 120)
        assert serving(dask) & with_it == with_it - {"w1-1"}
        assert len(jobs(slurm, cluster.name)) == 3
        assert "the worker ended: exited with code 3" in output(facility, cluster.name, "w1-1")

        # The server forgets what it knew of single workers, and finds its way.
        facility.rig.kill()
        cluster_size = 2
        facility.rig.start()
        cluster.scale(cluster_size)
        wait_until(lambda: len(serving(dask)) == cluster_size, "two are left", 120)
        wait_until(lambda: len(jobs(slurm, cluster.name)) <= cluster_size, "empty jobs go", 120)
        assert len(serving(dask)) == cluster_size
        cluster.scale(4)
        wait_until(lambda: len(serving(dask)) == 4, "and more come", 120)
    wait_until(lambda: not slurm.squeue("JobID", states=ALIVE), "no job is left")
    wait_for_clean_nodes(slurm)
    assert "Scheduler at" in output(facility, cluster.name, "s0-0"), "as long as it is remembered"


def output(facility, cluster: str, job: str) -> str:
    """What ``penstock logs`` shows."""
    path = f"/api/v1/clusters/{cluster}/logs?job={job}"
    status, text, _ = facility.ask(facility.alice, "GET", path)
    assert status == 200, text
    return text


def die():
    import os

    os._exit(3)


def test_a_prolog_that_fails_is_told(facility):
    with facility.client(facility.alice) as gateway, pytest.raises(GatewayClusterError) as caught:
        gateway.new_cluster(profile="stumbles")
    said = str(caught.value)
    assert "the profile's prolog failed at echo 'no such module: python/4'" in said
    assert "false: no such module: python/4" in said
