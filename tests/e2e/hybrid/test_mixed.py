"""One cluster, three places: a scheduler beside the gateway, workers on HTCondor and on Slurm."""

from __future__ import annotations

import json
import types

import dask
import pytest

from rigs.facility import running_facility
from rigs.gateway import wait_until

PROFILE = """
[backends.slurm]
type = "slurm"
config = "{slurm.config}"
bin = "{slurm.bin}"
scratch = "{slurm.directory}/scratch"
period = "500 ms"

[backends.condor]
type = "htcondor"
bin = "{condor.bin}"
config = "{condor.config}"
directory = "{condor.directory}/files"
period = "500 ms"
grace = "10 s"

[profiles.mixed.scheduler]
python = "{{python}}"

[profiles.mixed.workers.cpu]
backend = "condor"
python = "{{python}}"
memory = "1 GiB"
nanny = false
scheduler_route = "door"

[profiles.mixed.options]
gpu_workers = {{{{ type = "integer", min = 0, max = 2, target = "group.gpu.count" }}}}

[profiles.mixed.workers.gpu]
backend = "slurm"
python = "{{python}}"
memory = "1 GiB"
nanny = false
scheduler_route = "door"
resources = {{{{ GPU = 1 }}}}
"""


@pytest.fixture(scope="module")
def facility(unix_users, slurm_cluster, condor_pool):
    profile = PROFILE.format(slurm=slurm_cluster, condor=condor_pool)
    with running_facility(unix_users, profile) as facility:
        yield facility


def by_value(function):
    """The same function as no importable one, so that jobs need not have these tests."""
    copy = types.FunctionType(function.__code__, {"__builtins__": __builtins__}, function.__name__)
    copy.__module__ = "__main__"
    return copy


def where(number, *before):
    """Which worker does this, and the sum of what was done before."""
    import time

    from distributed import get_worker

    time.sleep(0.1)
    return get_worker().name, number + sum(total for _, total in before)


def test_one_graph_over_htcondor_and_slurm(facility, condor, slurm):
    alice = facility.alice
    with (
        facility.client(alice) as client,
        client.new_cluster(profile="mixed", gpu_workers=1) as cluster,
        cluster.get_client() as dask_client,
    ):
        cluster.scale(2)
        dask_client.wait_for_workers(3, timeout=120)
        assert {(job["Owner"], job["JobStatus"]) for job in condor.living()} == {(alice, 2)}
        assert len(condor.living()) == 2
        assert slurm.squeue("UserName", states="R") == [(alice,)]
        shown = dask_client.scheduler_info(n_workers=-1)["workers"].values()
        gpu = {one["name"] for one in shown if one["resources"] == {"GPU": 1}}
        assert len(gpu) == 1
        # Both kinds of workers in one graph: each of the second half needs all of the first.
        task = dask.delayed(by_value(where))
        first = [task(number, dask_key_name=f"first-{number}") for number in range(60)]
        with dask.annotate(resources={"GPU": 1}):
            second = [task(0, *first, dask_key_name=f"second-{number}") for number in range(4)]
        running = dask_client.compute(second, optimize_graph=False, sync=False)
        keys = [each.key for each in first]
        wait_until(lambda: some_are_done(dask_client, keys, 10), "some of the first are done")
        # All of one group are killed meanwhile, by somebody else, with what they had computed.
        condor.run("condor_rm", "-constraint", f'Owner == "{alice}"')
        results = dask_client.gather(running)
        assert {total for _, total in results} == {sum(range(60))}
        assert {name for name, _ in results} == gpu
        dask_client.wait_for_workers(3, timeout=120)
        address = f"/api/v1/clusters/{cluster.name}/live"
        scaling = json.loads(facility.ask(alice, "GET", address)[1])["scaling"]
        assert {name: wish["count"] for name, wish in scaling.items()} == {"cpu": 2, "gpu": 1}
    wait_until(lambda: not condor.living(), "no job is left in HTCondor")
    wait_until(lambda: not slurm.squeue("JobID", states="PD,R,CF,CG"), "no job is left in Slurm")


def some_are_done(dask_client, keys, count):
    states = dask_client.run_on_scheduler(by_value(states_of), keys=keys)
    return sum(state == "memory" for state in states) >= count


def states_of(keys, dask_scheduler):
    return [dask_scheduler.tasks[key].state for key in keys if key in dask_scheduler.tasks]
