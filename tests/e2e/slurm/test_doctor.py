"""``penstock doctor`` on a real Slurm: a gateway that is well but for what its admin got wrong."""

from __future__ import annotations

import re

import pytest

from penstock.backends.insight import Verdict
from penstock.model.demand import Demand
from penstock.model.job import Resources
from rigs.doctor import doctor, told
from rigs.environments import environment
from rigs.facility import free_ports
from rigs.gateway import wait_until
from rigs.slurm_jobs import SlurmRig

CONFIG = """
[server]
state_dir = "{place}/state"

[[listen]]
address = "127.0.0.1:{port}"

[auth]
type = "basic"
users_file = "{place}/users"

[backends.slurm]
type = "slurm"
config = "{slurm.config}"
bin = "{slurm.bin}"
scratch = "{slurm.directory}/scratch"

[profiles.good.scheduler]
backend = "slurm"
python = "{python}"

[profiles.good.workers]

[profiles.misled.scheduler]
backend = "slurm"
python = "{python}"
extras = {{ partition = "nowhere" }}

[profiles.misled.workers]

[profiles.absent.scheduler]
backend = "slurm"
python = "/nowhere/bin/python"

[profiles.absent.workers]

[profiles.empty.scheduler]
backend = "slurm"
python = "{empty}"

[profiles.empty.workers]
"""


def test_a_site_before_its_first_start(slurm, unix_users, tmp_path):
    """The doctor answers the jobs itself, as no server runs, and leaves nothing behind."""
    port, alice = free_ports(1)[0], unix_users[0]
    # Right after slurmctld was started anew it says that there are no nodes.
    wait_until(lambda: set(slurm.node_states().values()) == {"idle"}, "all nodes are idle")
    (tmp_path / "users").touch(0o600)
    config = tmp_path / "penstock.toml"
    pythons = {"python": environment("new"), "empty": environment("empty")}
    config.write_text(CONFIG.format(place=tmp_path, port=port, slurm=slurm, **pythons))
    code, output = doctor("--config", config, "--user", alice, "--probe")
    text = told(output)
    assert code == 1
    assert "ok server: does not run now" in text
    assert "!! agent_url: http://127.0.0.1" in text
    assert "ok version: Slurm " in text
    assert "ok clock: as slurmctld's" in text
    assert "ok MaxArraySize: 501" in text
    assert "ok partitions: main, small" in text
    assert f"ok acting for {alice}" in text
    assert "ok profile good, scheduler: such a job could start at once" in text
    assert "XX profile misled, scheduler: Slurm refuses such a job: invalid partition" in text
    jobs = (
        rf"ok job of profile good, scheduler on n\d: reaches http://127.0.0.1:{port};",
        r"XX job of profile misled, scheduler: Slurm refused the job: invalid partition",
        r"XX job of profile absent, scheduler on n\d: its Python is not there on the node",
        r"XX job of profile empty, scheduler on n\d: its Python, \S+, has no dask or distributed",
    )
    for pattern in jobs:
        assert re.search(pattern, text), f"{pattern}\n{output}"
    assert max(map(len, output.splitlines())) <= 80
    assert not slurm.squeue("JobID", states="PD,R,CG,S")
    assert not list((slurm.directory / "scratch").glob("penstock-*")), "nothing stays on the nodes"
    assert not (tmp_path / "state").exists()


def test_a_gateway_that_runs(facility):
    _, output = doctor(*facility.rig.place(), "--backend", "slurm")
    text = told(output)
    assert f"ok agent_url {facility.addresses[0]}: Penstock" in text
    assert "ok database: in order" in text
    assert "ok front door: runs as process" in text
    assert "Backend local" not in text


def sample(name: str, partition: str) -> str:
    labels = f'account="",backend="slurm",partition="{partition}",qos=""'
    return f"penstock_slurm_{name}{{{labels}}} "


def test_a_scrape_shows_the_last_numbers_and_their_age(facility):
    wanted = {
        sample("prediction_failed", "") + "0.0",
        sample("prediction_failed", "nowhere") + "1.0",
    }

    def lines() -> set[str]:
        return set(facility.ask(facility.admin, "GET", "/metrics")[1].splitlines())

    wait_until(lambda: wanted <= lines(), "expected starts are there")
    shown = "\n".join(lines())
    assert 'penstock_figures_age_seconds{backend="slurm"} ' in shown
    assert 'penstock_figures_failures_total{backend="slurm"} 0.0' in shown
    assert sample("predicted_wait_seconds", "") in shown


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
    wait_until(lambda: set(rig.cluster.node_states().values()) == {"idle"}, "all nodes are idle")
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
