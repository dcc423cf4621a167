"""Slurm's own numbers, against what a real Slurm was given, and what they cost."""

from __future__ import annotations

import pytest

from penstock.backends.slurm import slurm_commands
from penstock.backends.slurm.acting import Itself
from penstock.backends.slurm.figures import count_arguments
from penstock.backends.slurm.measure import Measure
from penstock.model.demand import Demand
from penstock.model.errors import Unavailable
from penstock.model.job import Resources
from penstock.settings.figures import SlurmFigureSettings
from rigs.gateway import wait_until

SLEEP = ("--output=/dev/null", "--wrap", "sleep 1000")
GIB = 2**30


def measure(slurm, timeout: float = 30.0) -> Measure:
    demands = [
        Demand("profile a", "python3", Resources(1), Resources(1), {"partition": partition})
        for partition in ("main", "small", "nowhere")
    ]
    figures = SlurmFigureSettings(users=5)
    commands = slurm_commands(slurm.bin, slurm.config, timeout)
    return Measure(commands, Itself(commands, allow_root=True), figures, demands)


async def numbers(measure: Measure) -> dict[tuple[str, ...], float]:
    found = await measure.figures()
    return {
        (f.name.removeprefix("penstock_slurm_"), *(v for _, v in sorted(f.labels.items()))): f.value
        for f in found
    }


async def test_jobs_cores_and_memory_are_those_of_everybody(slurm, unix_users):
    alice, bob = unix_users
    slurm.run("sbatch", f"--uid={alice}", "--array=0-99%5", "-c2", "--mem=4G", *SLEEP)
    slurm.run("sbatch", f"--uid={bob}", "--array=1-400:3", "--hold", "--mem-per-cpu=1G", *SLEEP)
    slurm.run(
        "sbatch", f"--uid={bob}", "-N2", "-n6", "--mem-per-cpu=1G", "-p", "small,main", *SLEEP
    )
    wait_until(lambda: len(slurm.squeue("JobID", states="R")) == 6, "five tasks and a wide job run")
    own = measure(slurm)
    found = await numbers(own)
    assert found["jobs", "main", "running", alice] == 5
    assert found["cores", "main", "running", alice] == 10
    assert found["memory_bytes", "main", "running", alice] == 20 * GIB
    assert found["jobs", "main", "pending", alice] == 95
    assert found["cores", "main", "pending", alice] == 190
    assert found["memory_bytes", "main", "pending", alice] == 380 * GIB
    assert found["jobs", "main", "held", bob] == 134
    assert found["memory_bytes", "main", "held", bob] == 134 * GIB
    assert found["jobs", "main", "running", bob] == 1
    assert found["cores", "main", "running", bob] == 6
    assert found["memory_bytes", "main", "running", bob] == 6 * GIB
    assert found["predicted_wait_seconds", "", "main", ""] >= 0
    assert found["prediction_failed", "", "main", ""] == 0
    assert found["prediction_failed", "", "nowhere", ""] == 1
    assert ("predicted_wait_seconds", "", "nowhere", "") not in found


async def test_a_full_partition_means_a_wait(slurm):
    slurm.run("sbatch", "-p", "small", "--exclusive", "--time=7", *SLEEP)
    wait_until(lambda: slurm.squeue("JobID", states="R"), "it runs")
    found = await numbers(measure(slurm))
    assert 300 < found["predicted_wait_seconds", "", "small", ""] <= 480
    assert found["predicted_wait_seconds", "", "main", ""] < 60


async def test_a_thousand_waiting_tasks_are_two_lines(slurm):
    for _ in range(2):
        slurm.run("sbatch", "--array=0-499", "--mem=1M", "--time=1", "--hold", *SLEEP)
    lines = slurm.run("squeue", *count_arguments("|")).stdout.splitlines()
    assert len(lines) == 2
    found = await numbers(measure(slurm))
    assert sum(value for key, value in found.items() if key[0] == "jobs") == 1000


async def test_a_dead_controller_is_one_failure(slurm):
    own = measure(slurm, timeout=10.0)
    with slurm.dead_controller(), pytest.raises(Unavailable, match="Slurm did not answer"):
        await own.figures()
    assert await own.figures()
