"""Many real workers, a real computation, and a Slurm that takes some of them away meanwhile."""

from __future__ import annotations

import json

from rigs.gateway import wait_until

WORKERS = 40
TASKS = 5_000
ALIVE = "PD,R,CF,CG,S"


def events(facility, cluster: str, kind: str) -> list[str]:
    _, text, _ = facility.ask(facility.alice, "GET", f"/api/v1/clusters/{cluster}/events")
    return [event["text"] for event in json.loads(text)["events"] if event["kind"] == kind]


def test_a_computation_survives_the_loss_of_a_quarter_of_its_workers(facility, slurm):
    with (
        facility.client(facility.alice) as gateway,
        gateway.new_cluster(profile="slurm") as cluster,
        cluster.get_client() as dask,
    ):

        def running() -> list[str]:
            shown = slurm.squeue("ArrayJobID", "ArrayTaskID", "Name", states="R")
            name = f"dask-worker-{cluster.name}"
            return sorted(f"{base}_{task}" for base, task, job in shown if job == name)

        def work(number: int) -> int:
            import time

            time.sleep(0.01)
            return number * number

        cluster.scale(WORKERS)
        dask.wait_for_workers(WORKERS // 2, timeout=240)
        futures = dask.map(work, range(TASKS), pure=False, retries=3)
        total = dask.submit(sum, futures, retries=3)
        wait_until(lambda: any(f.done() for f in futures), "the computation has begun", 120)
        victims = running()[:10]
        assert len(victims) == 10
        slurm.run("scancel", "--signal=KILL", "--full", *victims)
        assert total.result(timeout=240) == sum(n * n for n in range(TASKS))
        wait_until(lambda: len(set(running()) - set(victims)) == WORKERS, "they are replaced", 240)
        dask.wait_for_workers(WORKERS, timeout=240)
        said = " ".join(events(facility, cluster.name, "worker-exit"))
        assert "replaced" in said
        assert "SIGKILL" in said
    wait_until(lambda: not slurm.squeue("JobID", states=ALIVE), "no job is left", 120)
