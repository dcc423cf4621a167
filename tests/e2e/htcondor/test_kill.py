"""The server dies around its submissions and removals: HTCondor has neither an orphan nor a double.
And when it never comes back, its jobs go by themselves, even those that have yet to start.
"""

from __future__ import annotations

import contextlib

import aiohttp

from rigs.condor_clusters import events, jobs, scale, serving
from rigs.gateway import wait_until

GIVE_UP = "10"


@contextlib.contextmanager
def dying(facility, point: str):
    """The server is started anew, dies at that point of what is done here, and is back after it."""
    rig = facility.rig
    rig.kill()
    rig.start(crash=(point, 1))
    with contextlib.suppress(aiohttp.ClientError, OSError):
        yield
    wait_until(lambda: rig.process.poll() is not None, "it died where it should")
    rig.start()


def test_the_server_dies_around_a_command(facility, condor):
    with facility.client(facility.alice) as client:
        name = ""
        with dying(facility, "after condor_submit"):
            name = client.submit(profile="htcondor")
        name = name or client.list_clusters()[0].name
        with client.connect(name, shutdown_on_close=True) as cluster, cluster.get_client() as dask:
            assert len(jobs(condor, name, "scheduler")) == 1
            for point, count in (
                ("before condor_submit", 1),
                ("after condor_submit", 3),
                ("before condor_rm", 1),
            ):
                with dying(facility, point):
                    cluster.scale(count)
                wait_until(lambda n=count: len(serving(dask)) == n, f"{count} serve", 120)
                wait_until(lambda n=count: len(jobs(condor, name)) == n, "as in HTCondor")
            assert dask.submit(sum, [1, 2], pure=False).result(timeout=60) == 3
            assert len(jobs(condor, name, "scheduler")) == 1
            assert not events(facility, name, "worker-exit")
    wait_until(lambda: not condor.living(), "no job is left")


def test_a_server_that_never_comes_back(facility, condor):
    rig = facility.rig
    rig.kill()
    rig.start(through=("impatient_serve.py", GIVE_UP))
    with facility.client(facility.alice) as client:
        cluster = client.new_cluster(profile="htcondor", shutdown_on_close=False)
        cluster.scale(1)
        with cluster.get_client() as dask:
            dask.wait_for_workers(1, timeout=120)
        with condor.without("negotiator"):
            [first] = jobs(condor, cluster.name)
            cluster.scale(2)
            wait_until(lambda: len(jobs(condor, cluster.name)) == 2, "one more is submitted")
            [late] = set(jobs(condor, cluster.name)) - {first}
            scale(facility, cluster.name, "never", 2)
            wait_until(lambda: len(jobs(condor, cluster.name)) == 4, "so are others")
            rig.kill()
            cluster.close()
            wait_until(lambda: jobs(condor, cluster.name) == [late], "all others are gone", 90)
            wait_until(lambda: not jobs(condor, cluster.name, "scheduler"), "and its scheduler")
    wait_until(lambda: not condor.living(), "who starts without a scheduler ends", 90)
    number, _, proc = late.partition(".")
    attributes = ("ExitCode", "JobCurrentStartExecutingDate")
    [ad] = condor.queue(*attributes, constraint=f"ClusterId == {number} && ProcId == {proc}")
    assert ad["JobStatus"] == 4, "by itself"
    assert ad["ExitCode"] != 0
    rig.start()
