"""Many real workers, a real computation, and a Slurm that takes some of them away meanwhile."""

from __future__ import annotations

from rigs.gateway import wait_until
from rigs.slurm_clusters import ALIVE, by_value, events, jobs, running

WORKERS = 40
TASKS = 5_000
VICTIMS = 10


def work(number):
    import time

    time.sleep(0.01)
    return number * number


def test_a_computation_survives_the_loss_of_a_quarter_of_its_workers(facility, slurm):
    with running(facility) as (_, cluster, dask):
        name = cluster.name
        cluster.scale(WORKERS)
        dask.wait_for_workers(WORKERS // 2, timeout=240)
        futures = dask.map(by_value(work), range(TASKS), pure=False)
        total = dask.submit(sum, futures)
        wait_until(lambda: any(f.done() for f in futures), "the computation has begun", 120)
        victims = jobs(slurm, name, states="R")[:VICTIMS]
        assert len(victims) == VICTIMS
        slurm.run("scancel", "--signal=KILL", "--full", *victims)
        assert total.result(timeout=240) == sum(n * n for n in range(TASKS))

        def others() -> set[str]:
            return {*jobs(slurm, name, states="R")} - {*victims}

        wait_until(lambda: len(others()) == WORKERS, "others run in their place", 240)
        dask.wait_for_workers(WORKERS, timeout=240)
        said = " ".join(events(facility, name, "worker-exit"))
        assert "cancelled from outside: Slurm says CANCELLED" in said
        assert said.count("replaced") == said.count("Slurm says")
    wait_until(lambda: not slurm.squeue("JobID", states=ALIVE), "no job is left", 120)
