"""Accounts, QOS and their limits, as a site with slurmdbd has them: users read what holds them up."""

from __future__ import annotations

import contextlib

import pytest
from dask_gateway.client import ClusterStatus, GatewayClusterError

from penstock.backends.insight import Verdict
from penstock.backends.slurm.rest import Rest
from penstock.backends.slurm.sudo import Sudo
from penstock.backends.slurm.tokens import TokenFile
from penstock.model.demand import Demand
from penstock.model.errors import Full, Rejected
from penstock.model.job import Resources
from rigs.backends import make_batch, observe_until
from rigs.doctor import doctor
from rigs.doctor import told as in_one_line
from rigs.facility import running_facility
from rigs.gateway import wait_until
from rigs.slurm_accounting import AccountedSlurm
from rigs.slurm_acting import installed_helper, slurmrestd
from rigs.slurm_clusters import ALIVE, BACKEND, events, jobs, profile, running, scale, serving, told
from rigs.slurm_install import later_slurm
from rigs.slurm_jobs import SlurmRig
from rigs.slurm_sessions import emptied, need_slurm, started

JOBS = """
[backends.slurm.figures]
period = "1 s"
predict_period = "1 s"
predict_user = "{alice}"

[backends.slurm.figures.predict.brief]
account = "cms"
qos = "brief"

[backends.slurm.figures.predict.other]
account = "atlas"

[backends.slurm.jobs]
account = "cms"
time = "30 min"
"""

PROFILES = profile(
    "slurm",
    few='extras = {{ qos = "few" }}',
    busy='extras = {{ qos = "busy" }}',
    brief='extras = {{ qos = "brief" }}',
    scavenge='extras = {{ qos = "scavenge", nodelist = "n2" }}',
)

QOS = {
    "few": ["MaxSubmitJobsPerUser=3"],
    "busy": ["MaxJobsPerUser=1"],
    "brief": ["MaxWall=10"],
    "strict": ["MaxWall=10", "Flags=DenyOnLimit"],
    "scavenge": ["GraceTime=60", "PreemptMode=cancel"],
    "urgent": ["Preempt=scavenge"],
}


@pytest.fixture(scope="module", params=["installed", "newer"])
def site(request, unix_users):
    """Alice has an account and all QOS; Bob has none, as has root."""
    need_slurm()
    programs = later_slurm("newer") if request.param == "newer" else None
    with contextlib.contextmanager(started)(AccountedSlurm(programs=programs)) as site:
        site.accounts("add", "account", "cms")
        for name, limits in QOS.items():
            site.accounts("add", "qos", name, *limits)
        site.accounts("add", "user", unix_users[0], "account=cms")
        site.accounts("modify", "user", unix_users[0], "set", f"qos+={','.join(QOS)}")
        yield site


@pytest.fixture
def slurm(site):
    yield from emptied(site)


@pytest.fixture(scope="module")
def facility(site, unix_users):
    config = BACKEND.format(slurm=site) + JOBS.format(alice=unix_users[0]) + PROFILES
    with running_facility(unix_users, config) as facility:
        yield facility


def test_who_has_no_account_is_refused_in_slurms_words(facility, slurm):
    refused = pytest.raises(GatewayClusterError, match="Invalid account or account/partition")
    with facility.client(facility.bob) as gateway, refused:
        gateway.new_cluster(profile="slurm")
    assert not slurm.squeue("JobID", states=ALIVE)


def test_what_does_not_fit_now_comes_later(facility, slurm):
    with running(facility) as (gateway, cluster, dask):
        name = cluster.name
        scale(facility, name, "few", 5)
        told(facility, name, "queue-limit", "2 of 5 workers wait until slurm takes more jobs: ", 90)
        assert "QOSMaxSubmitJobPerUserLimit" in events(facility, name, "queue-limit")[-1]
        dask.wait_for_workers(3, timeout=120)
        assert len(jobs(slurm, name)) == 3
        slurm.accounts("modify", "qos", "few", "set", "MaxSubmitJobsPerUser=5")
        try:
            dask.wait_for_workers(5, timeout=120)
        finally:
            slurm.accounts("modify", "qos", "few", "set", "MaxSubmitJobsPerUser=3")
        assert gateway.get_cluster(name).status is ClusterStatus.RUNNING


def test_a_limit_says_whether_waiting_helps(facility, slurm):
    with running(facility) as (_, cluster, dask):
        scale(facility, cluster.name, "busy", 2)
        dask.wait_for_workers(1, timeout=120)
        words = "1 worker waits in slurm: QOSMaxJobsPerUserLimit, you have as much as you may"
        told(facility, cluster.name, "waiting", words, 90)
        # Slurm's accounts may be away for days: slurmctld knows what it knew.
        slurm.kill("slurmdbd")
        try:
            scale(facility, cluster.name, "default", 1)
            dask.wait_for_workers(2, timeout=120)
        finally:
            slurm.start_accounting()
    with running(facility) as (_, cluster, _):
        scale(facility, cluster.name, "brief", 1)
        words = "QOSMaxWallDurationPerJobLimit, so long a job does not start"
        told(facility, cluster.name, "waiting", words, 90)


def test_a_preempted_worker_has_its_grace_time(facility, slurm):
    with running(facility) as (_, cluster, dask):
        scale(facility, cluster.name, "scavenge", 1)
        dask.wait_for_workers(1, timeout=120)
        data = dask.scatter(list(range(20)), hash=False)
        [old] = serving(dask)
        scale(facility, cluster.name, "default", 1)
        dask.wait_for_workers(2, timeout=120)
        urgent = ("--uid", facility.alice, "--account=cms", "--qos=urgent", "-w", "n2")
        wide = ("--exclusive", "-o", "/dev/null", "--chdir=/", "--wrap", "sleep 1")
        slurm.run("sbatch", *urgent, *wide)
        told(facility, cluster.name, "leaving", "1 worker's time is over at", 90)
        wait_until(lambda: old not in serving(dask), "it left", 120)
        assert dask.gather(data) == list(range(20)), "it handed its data over"
        wait_until(lambda: len(serving(dask)) == 2, "it was replaced", 120)


def lines(facility, name: str) -> list[str]:
    """Of the metrics: labels and values of one."""
    text = facility.ask(facility.admin, "GET", "/metrics")[1]
    start = f"penstock_slurm_{name}{{"
    return [line[len(start) :] for line in text.splitlines() if line.startswith(start)]


def test_waits_are_predicted_for_who_may_ask(facility, site):
    brief = 'account="cms",backend="slurm",partition="",qos="brief"}'
    other = 'account="atlas",backend="slurm",partition="",qos=""}'
    wait_until(lambda: f"{other} 1.0" in lines(facility, "prediction_failed"), "one is refused")
    assert f"{brief} 0.0" in lines(facility, "prediction_failed")
    waits = lines(facility, "predicted_wait_seconds")
    assert any(line.startswith(brief) for line in waits)
    assert not any(line.startswith(other) for line in waits)


def test_the_doctor_looks_as_who_may(facility):
    """Root has no account here; whoever is asked for by the metrics has."""
    place = (*facility.rig.place(), "--backend", "slurm")
    seen = in_one_line(doctor(*place)[1])
    assert "ok profile slurm, workers busy: such a job could start at once" in seen
    code, bob = doctor(*place, "--user", facility.bob)
    assert code == 1
    assert "XX profile slurm, workers busy: Slurm refuses such a job: Invalid" in in_one_line(bob)


@pytest.fixture
async def rig(slurm, unix_users):
    rig = SlurmRig(slurm, unix_users[0])
    yield rig
    await rig.aclose()


@pytest.fixture(params=["itself", "sudo", "slurmrestd"])
def acting(request, site):
    """Each way to act for users."""
    with contextlib.ExitStack() as stack:
        if request.param == "itself":
            yield None
        elif request.param == "sudo":
            yield Sudo(stack.enter_context(installed_helper(site)), timeout=20.0)
        else:
            daemon = stack.enter_context(slurmrestd(site))
            path = daemon.keep("gateway", daemon.token("root"), "root")
            yield Rest(daemon.url, TokenFile(path), timeout=20.0)


def sleepers(rig, count, **extras):
    script = {"probe.py": b"import time; time.sleep(1000)"}
    return make_batch(rig, count, files=script, extras={"account": "cms", **extras})


async def test_too_many_jobs_are_told_from_too_large_ones(rig, acting):
    backend = rig.open(acting=acting)
    with pytest.raises(Rejected, match="accounting/QOS policy"):
        await backend.submit(sleepers(rig, 1, qos="strict", time="20 min"))
    with pytest.raises(Full, match="accounting/QOS policy"):
        await backend.submit(sleepers(rig, 5, qos="few"))
    await backend.submit(sleepers(rig, 3, qos="few"))
    await observe_until(backend, lambda now: len(now) == 3, "three are there")
    with pytest.raises(Full, match="accounting/QOS policy"):
        await backend.submit(sleepers(rig, 1, qos="few"))
    with pytest.raises(Rejected, match="Invalid qos"):
        await backend.submit(sleepers(rig, 1, qos="none"))


async def test_the_doctor_asks_as_a_user_where_it_can(rig, acting):
    demands = [Demand("cms", "python3", Resources(1), Resources(1), {"account": "cms"})]
    backend = rig.open(acting=acting, demands=demands)
    found = {finding.what: finding async for finding in backend.examine(rig.owner)}["cms"]
    if isinstance(acting, Rest):
        assert found.verdict is Verdict.WARNING
        assert (
            "asked as the gateway's own account: Slurm refuses such a job: Invalid" in found.found
        )
    else:
        assert found.verdict is Verdict.GOOD
        assert "such a job could start at once" in found.found
