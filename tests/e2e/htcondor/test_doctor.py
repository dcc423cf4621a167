"""``penstock doctor`` on a real pool: a gateway that is well but for what its admin got wrong."""

from __future__ import annotations

import re

import pytest

from penstock.backends.htcondor import condor_commands
from penstock.backends.insight import Finding, Verdict
from penstock.model.demand import Demand
from penstock.model.job import Resources
from penstock.settings.figures import FigureSettings
from rigs.condor_install import installed
from rigs.condor_jobs import CondorRig
from rigs.doctor import doctor, told
from rigs.environments import environment
from rigs.facility import free_ports

CONFIG = """
[server]
state_dir = "{place}/state"

[[listen]]
address = "127.0.0.1:{port}"

[auth]
type = "basic"
users_file = "{place}/users"

[backends.htcondor]
type = "htcondor"
bin = "{condor.bin}"
config = "{condor.config}"
directory = "{condor.files}"
timeout = "15 s"

[profiles.good.scheduler]
backend = "htcondor"
python = "{python}"

[profiles.good.workers]

[profiles.misled.scheduler]
backend = "htcondor"
python = "{python}"
extras = {{ submit = {{ use_x509userproxy = "true", x509userproxy = "/nowhere/x509up" }} }}

[profiles.misled.workers]

[profiles.absent.scheduler]
backend = "htcondor"
python = "/nowhere/bin/python"

[profiles.absent.workers]
"""


def test_a_site_before_its_first_start(condor, unix_users, tmp_path):
    port, alice = free_ports(1)[0], unix_users[0]
    (tmp_path / "users").touch(0o600)
    config = tmp_path / "penstock.toml"
    python = environment("new")
    config.write_text(CONFIG.format(place=tmp_path, port=port, condor=condor, python=python))
    code, output = doctor("--config", config, "--user", alice, "--probe")
    text = told(output)
    assert code == 1
    for pattern in (
        rf"ok jobs' directory: {condor.files}, ",
        r"ok schedd: answers in",
        r"ok version: HTCondor \d+\.\d+ ok clock: as the schedd's",
        r"ok most jobs: 100000 of one user, 20000 of one submission",
        r"!! timeout: `timeout` is 15 s, and HTCondor itself waits for 20 s",
        rf"ok acting for {alice}: jobs can be submitted as {alice}@rig.local",
        rf"ok machines: 1 with {condor.cpus} cores, 0 run containers",
        r"ok profile good, scheduler: such a job fits on 1 of 1 machines",
        r"XX profile misled, scheduler: HTCondor refused the job: unable to read proxy file",
        rf"ok job of profile good, scheduler on \S+: reaches http://127.0.0.1:{port};",
        r"XX job of profile misled, scheduler: HTCondor refused the job",
        r"XX job of profile absent, scheduler on \S+: its Python is not there on the node",
    ):
        assert re.search(pattern, text), f"{pattern}\n{output}"
    assert not condor.living()
    assert not (tmp_path / "state").exists()


@pytest.fixture
async def rig(condor, unix_users):
    rig = CondorRig(condor, unix_users[0])
    yield rig
    await rig.aclose()


async def findings(backend, owner=None) -> dict[str, Finding]:
    """By what they are about; the worst of each."""
    found: dict[str, Finding] = {}
    async for finding in backend.examine(owner):
        if finding.what not in found or finding.verdict is not Verdict.GOOD:
            found[finding.what] = finding
    return found


async def test_what_profiles_may_ask_for_is_compared(rig):
    usual, huge = Resources(1, 2**30), Resources(9999, 2**30)
    needs = {
        "good": {"requirements": 'TARGET.Arch == "X86_64"'},
        "nowhere": {"requirements": 'Arch == "Z80"'},
        "wrong": {"requirements": "(("},
        "image": {"universe": "container", "container_image": "/x.sif"},
        "typo": {"submit": {"use_x509userprox": "true"}},
    }
    backend = rig.open()
    wanted = [Demand(name, "python3", usual, usual, extras) for name, extras in needs.items()]
    backend.watch(FigureSettings(), [*wanted, Demand("large", "python3", usual, huge)])
    found = await findings(backend, rig.owner)
    bad = {what for what, finding in found.items() if finding.verdict is Verdict.BAD}
    look = {what for what, finding in found.items() if finding.verdict is Verdict.WARNING}
    assert bad == {"wrong", "image"}
    assert look == {"nowhere", "large", "typo"}
    assert "users may ask for 9999 cores" in found["large"].found
    assert "Is it a typo?" in found["typo"].found


@pytest.mark.parametrize("way", ["behalf", "token"])
async def test_ways_to_act_for_users(condor, unix_users, way):
    rig = CondorRig(condor, unix_users[1], way)
    backend = rig.open()
    found = await findings(backend, rig.owner)
    acting = found[f"acting for {rig.owner}"]
    assert acting.verdict is Verdict.GOOD, acting
    assert not (rig.directory / "notes" / "tokens").exists(), "the server's notes stay as they are"
    root = (await findings(backend, "root"))["acting for root"]
    assert (root.verdict, "must not run as root" in root.found) == (Verdict.BAD, True)
    await rig.aclose()


async def test_newer_commands_than_the_schedds(condor, rig, tmp_path, monkeypatch):
    """25.x refuses FS with a 23.9 schedd, and so do its own words say."""
    if "23.9" not in str(condor.tree):
        pytest.skip("this pool is new itself")
    config = tmp_path / "condor_config"
    text = condor.config.read_text().replace("SEC_FS_ENFORCE_CHANNEL_BINDING = False", "")
    config.write_text(text)
    for place in (tmp_path, *tmp_path.parents[:2]):
        place.chmod(place.stat().st_mode | 0o755)
    backend = rig.open()
    newer = condor_commands(installed("25.14") / "usr/bin", config, 30.0)
    monkeypatch.setattr(backend, "_commands", newer)
    monkeypatch.setattr(backend._actors, "_commands", newer)
    found = await findings(backend, rig.owner)
    for what in ("version", f"acting for {rig.owner}"):
        assert found[what].verdict is Verdict.BAD
        assert "SEC_FS_ENFORCE_CHANNEL_BINDING" in found[what].advice
    assert "FS:1004" in found[f"acting for {rig.owner}"].found


async def test_what_is_away_is_named(rig, condor):
    backend = rig.open(timeout=25.0)
    stranger = await findings(backend, "no-such-user")
    assert stranger["acting for no-such-user"].verdict is Verdict.BAD
    with condor.without("schedd"):
        *_, away = [f async for f in backend.examine()]
    assert (away.what, away.verdict) == ("schedd", Verdict.BAD)
    assert "is condor_schedd running" in away.advice
    with condor.hanging():
        *_, hung = [f async for f in rig.open(timeout=3.0).examine()]
    assert (hung.what, hung.verdict) == ("schedd", Verdict.BAD)
    assert "the daemon hangs" in hung.advice
    backend._commands = condor_commands(None, condor.config, 10.0)
    commands, _, schedd = [f async for f in backend.examine()]
    assert commands.found.startswith("there is no condor_q, condor_submit")
    assert "set `bin`" in schedd.advice
