"""``penstock doctor`` on a real Slurm: a gateway that is well but for what its admin got wrong."""

from __future__ import annotations

import re

import pytest

from penstock.backends.insight import Verdict
from penstock.model.job import Resources
from penstock.settings.demands import Demand
from rigs.slurm_jobs import SlurmRig


def told(text: str) -> str:
    """Lines as one, as their width does not matter."""
    return re.sub(r"\s+", " ", text)


def test_a_site_with_two_mistakes(facility, slurm):
    place = facility.rig.place()
    done = facility.rig.cli(
        "doctor", *place, "--backend", "slurm", "--user", facility.alice, "--probe", check=False
    )
    text = told(done.stdout)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"ok agent_url {facility.addresses[0]}: Penstock" in text
    assert "ok version: Slurm " in text
    assert "ok clock: as slurmctld's" in text
    assert "ok MaxArraySize: 501" in text
    assert "ok partitions: main, small" in text
    assert f"ok acting for {facility.alice}" in text
    assert "ok profile slurm, workers default: such a job could start at once" in text
    assert "XX profile misled, scheduler: Slurm refuses such a job: invalid partition" in text
    reached = rf"ok job of profile slurm, scheduler on n\d: reaches {facility.addresses[0]}"
    assert re.search(reached, text), text
    assert "XX job of profile misled, scheduler: Slurm refused the job: invalid partition" in text
    absent = r"XX job of profile absent, scheduler on n\d: its Python is not there on the node"
    assert re.search(absent, text), text
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert not slurm.squeue("JobID", states="PD,R,CG,S")
    assert not list((slurm.directory / "scratch").glob("penstock-*")), "nothing stays on the nodes"


@pytest.fixture
async def rig(slurm, unix_users):
    rig = SlurmRig(slurm, unix_users[0])
    yield rig
    await rig.aclose()


async def findings(backend, owner=None) -> list[tuple[str, Verdict, str]]:
    return [(f.what, f.verdict, f.found) async for f in backend.examine(owner)]


async def test_what_profiles_may_ask_for_is_tried(rig):
    demands = [
        Demand("large", "python3", Resources(1), Resources(9999), {}),
        Demand("long", "python3", Resources(1), Resources(1), {"partition": "small"}),
        Demand("wrong", "python3", Resources(1), Resources(1), {"partition": 7}),
    ]
    backend = rig.open(demands=demands, jobs={"time": "1h"}, timeout=3.0)
    found = await findings(backend, rig.owner)
    assert (f"acting for {rig.owner}", Verdict.GOOD, "jobs can be submitted as this user") in found
    bad = {what: words for what, verdict, words in found if verdict is Verdict.BAD}
    assert set(bad) == {"MessageTimeout", "long", "wrong"}
    assert "such jobs wait for ever" in bad["long"]
    [(what, words)] = [(w, f) for w, verdict, f in found if verdict is Verdict.WARNING]
    assert what == "large"
    assert "users may ask for 9999 cores" in words
    nobody = {what: verdict for what, verdict, _ in await findings(backend, "no-such-user")}
    assert nobody["acting for no-such-user"] is Verdict.BAD


async def test_daemons_that_are_away_are_named(rig, slurm):
    backend = rig.open(timeout=10.0)
    with slurm.dead_controller():
        [dead] = [f async for f in backend.examine()]
    with slurm.dead_munge():
        [lost] = [f async for f in backend.examine()]
    assert dead.verdict is lost.verdict is Verdict.BAD
    assert "slurmctld running" in dead.advice
    assert "munged running" in lost.advice
