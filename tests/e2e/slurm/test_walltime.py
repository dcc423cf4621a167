"""Workers of a real Slurm go before their time limit, and what they hold does not."""

from rigs.gateway import wait_until
from rigs.slurm_clusters import events, jobs, running, serving


def test_workers_near_their_limit_are_followed_and_hand_over_their_data(facility, slurm_cluster):
    with running(facility) as (_, cluster, dask_client):
        cluster.scale(2)
        dask_client.wait_for_workers(2, timeout=120)
        first = serving(dask_client)
        data = dask_client.scatter(list(range(20)), hash=False)
        for job in jobs(slurm_cluster, cluster.name):
            slurm_cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=1")

        def follow():
            now = serving(dask_client)
            return len(now) >= 2 and not now & first

        wait_until(follow, "others have followed", 120)
        assert dask_client.gather(data) == list(range(20))
        told = events(facility, cluster.name)
        assert any("time is over" in text for text in told)
        assert not [text for text in told if "reached its time limit" in text]
        shown = facility.cli(facility.alice, "show", cluster.name).stdout.splitlines()
        [scheduler] = [line for line in shown if line.startswith("s0-0")]
        assert scheduler.split()[1] == "running"
        assert ", ends " in scheduler
