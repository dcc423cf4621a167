"""HTCondor's own numbers, against what a real pool was given."""

from __future__ import annotations

import pytest

from penstock.backends.htcondor import condor_commands
from penstock.backends.htcondor.figures import JOBS, measure
from penstock.model.errors import Unavailable
from rigs.gateway import wait_until

JOB = """
executable = /bin/sleep
arguments = 1000
request_cpus = {cpus}
request_memory = 2048
{more}
queue {count}
"""


def submit(condor, user: str, count: int, cpus: str = "1", more: str = "") -> None:
    text = JOB.format(cpus=cpus, count=count, more=more)
    condor.run("condor_submit", "-terse", "-", user=user, input=text)


async def numbers(condor, timeout: float = 30.0) -> dict[tuple[str, ...], float]:
    commands = condor_commands(condor.bin, condor.config, timeout)
    return {
        (f.name.removeprefix("penstock_htcondor_"), *f.labels.values()): f.value
        for f in await measure(commands, [], [], 10)
    }


async def test_jobs_cores_and_memory_are_those_of_everybody(condor, unix_users):
    alice, bob = unix_users
    submit(condor, alice, 3, cpus="2")
    submit(condor, bob, 5, cpus="1", more="hold = true")
    submit(condor, bob, 1000, more="requirements = false\nmy.RequestCpus = 2 + 2\n")
    submit(condor, bob, 1, more='hold = true\nmy.RequestCpus = "1\\n\\"root\\"\\t2\\t9\\t9"')
    wait_until(lambda: len(condor.living("JobStatus == 2")) == 3, "three jobs run")
    wait_until(lambda: condor.run("condor_status", "-af", "State").stdout.count("Claimed") == 3, "")
    found = await numbers(condor)
    assert found["jobs", alice, "running"] == 3
    assert found["cores", alice, "running"] == 6
    assert found["memory_bytes", alice, "running"] == 6 * 2**30
    assert found["jobs", bob, "held"] == 6
    assert found["cores", bob, "held"] == 6, "text counts as the number that it begins with"
    assert found["jobs", bob, "idle"] == 1000
    assert found["cores", bob, "idle"] == 4000
    assert found["memory_bytes", bob, "idle"] == 2000 * 2**30
    assert {key[1] for key in found if key[0] == "jobs"} == {alice, bob}
    assert found["pool_slots", "unclaimed"] == 1
    assert found["pool_cores", "claimed"] == 6
    assert found["pool_cores", "unclaimed"] == condor.cpus - 6
    assert found["pool_memory_bytes", "claimed"] == 6 * 2**30
    text = condor.run("condor_q", "-allusers", "-print-format", "/dev/stdin", input=JOBS).stdout
    assert len(text.splitlines()) == 4, "one line for all that are alike"
    condor.remove_all()
    assert not [key for key in await numbers(condor) if not key[0].startswith("pool")]


async def test_daemons_that_hang(condor, unix_users):
    submit(condor, unix_users[0], 1, more="hold = true")
    with condor.hanging("collector"):
        found = await numbers(condor, timeout=4.0)
    assert {key[0] for key in found} == {"jobs", "cores", "memory_bytes"}
    with condor.hanging("schedd"), pytest.raises(Unavailable, match="did not end in time"):
        await numbers(condor, timeout=4.0)
