"""Jobs as the profile, the role, the group and the user say, in the user's own environment, on a pool
that ends jobs after a minute: one cluster, looked at from all sides.
"""

from __future__ import annotations

import sys

import cloudpickle
import pytest

from rigs.condor_clusters import events, running, scale, serving
from rigs.depot import made
from rigs.gateway import wait_until

cloudpickle.register_pickle_by_value(sys.modules[__name__])

ATTRIBUTES = (
    *("JobBatchName", "RequestCpus", "RequestMemory", "RequestDisk", "Requirements", "Rank"),
    *("AcctGroup", "AccountingGroup", "ConcurrencyLimits", "JobUniverse", "PeriodicRemove"),
    *("isDaskJob", "Site", "Where", "Environment", "Env", "Arguments", "Args"),
)


@pytest.fixture(scope="module")
def depot():
    with made() as depot:
        yield depot


@pytest.fixture(scope="module")
def mine(facility, condor_pool, depot):
    """A cluster with two workers of its first group and one of another, which hold data."""
    sent = {**depot.notebook(), "_CONDOR_SCRATCH_DIR": "/x", "OMP_NUM_THREADS": "2"}
    options = {"conda_env": str(depot.conda), "env": sent, "worker_cores": 2, "worker_memory": 3}
    with running(facility, "chosen", account="ops", **options) as (_, cluster, dask):
        cluster.scale(2)
        scale(facility, cluster.name, "short", 1)
        dask.wait_for_workers(3, timeout=120)
        first = {name for name in serving(dask) if name.startswith("w1")}
        [lasting] = serving(dask) - first
        assert len(first) == 2
        held = dask.scatter(list(range(20)), hash=False, workers=sorted(first))
        yield cluster, dask, sent, first, lasting, held
    condor_pool.wait_for(lambda: not condor_pool.living(), "no job is left")
    condor_pool.remove_all()


def look_around():
    """What a job's Python sees."""
    import os
    import shutil
    import sys

    return {"env": dict(os.environ), "prefix": sys.prefix, "python": shutil.which("python")}


def helped():
    """By a module on the notebook's PYTHONPATH."""
    import notebook_helper

    return notebook_helper.ANSWER


def test_htcondor_is_told_what_profile_role_group_and_user_say(mine, condor_pool):
    cluster = mine[0]
    ads = condor_pool.queue(*ATTRIBUTES, constraint=f'regexp("{cluster.name}$", JobBatchName)')
    [scheduler] = [ad for ad in ads if "scheduler" in ad["JobBatchName"]]
    [short] = [ad for ad in ads if ad.get("Site") == "short"]
    one, *_ = [ad for ad in ads if ad not in (scheduler, short)]
    assert (scheduler["RequestCpus"], one["RequestCpus"], one["RequestMemory"]) == (1, 2, 3072)
    assert (one["RequestDisk"], scheduler["JobUniverse"], one["JobUniverse"]) == (2048, 5, 5)
    assert one["Rank"] == "/Expr(Memory)/"
    assert ["TotalCpus > 0" in ad["Requirements"] for ad in (one, scheduler)] == [True, False]
    assert one["ConcurrencyLimits"] == "licence:2"
    assert (one["AcctGroup"], scheduler["AcctGroup"]) == ("group_ops", "group_daemons")
    assert one["AccountingGroup"].startswith("group_ops.")
    assert all(ad["isDaskJob"] is True for ad in ads)
    assert (one["Site"], one["Where"]) == (r'a "b" \ \"c\" $(ProcId) ' + "\\", "here")
    assert "JobStatus == 1 && time() - QDate > 86400" in one["PeriodicRemove"]
    assert {(ad.get("Environment", ""), ad.get("Env", "")) for ad in ads} == {("", "")}
    assert {ad.get("Arguments") or ad.get("Args") for ad in ads} <= {"0", "1"}


def test_a_conda_environment_and_all_of_a_notebooks_variables(mine, facility, depot):
    cluster, dask, sent, *_ = mine
    for seen in (*dask.run(look_around).values(), dask.run_on_scheduler(look_around)):
        env = seen["env"]
        found = (seen["prefix"], seen["python"])
        assert found == (str(depot.conda), f"{depot.conda}/bin/python")
        assert env["OF_SCRIPT"] == f"{depot.conda} + state's"
        assert env["USER"] == facility.alice
        for name in ("PYTHONPATH", "LD_LIBRARY_PATH", "X509_USER_PROXY", "PS1", "OMP_NUM_THREADS"):
            assert env[name] == sent[name], name
        assert not {"PYTHONHOME", "LD_PRELOAD", "_CONDOR_SCRATCH_DIR"} & env.keys()
        assert "secret-of" not in str(env)
    assert set(dask.run(helped).values()) == {42}
    shown = facility.cli(facility.alice, "show", cluster.name).stdout
    assert "Not passed on, as the profile says: " in shown
    assert "_CONDOR_SCRATCH_DIR" in shown
    [scheduler] = [line for line in shown.splitlines() if line.startswith("s0-0")]
    assert ", ends " in scheduler


def test_workers_near_the_pools_limit_are_followed_and_hand_over_their_data(mine, facility):
    cluster, dask, _, first, lasting, held = mine

    def follow():
        now = serving(dask)
        return len(now) >= 3 and not now & first

    wait_until(follow, "others have followed", 120)
    assert dask.gather(held) == list(range(20))
    assert lasting in serving(dask), "whose group has no such limit"
    told = events(facility, cluster.name)
    assert any("time is over" in text for text in told)
    assert not events(facility, cluster.name, "worker-exit")
