"""What an HTCondor's words mean for a gateway. They are a real pool's, of 23.9 and 25.14."""

from __future__ import annotations

import pytest

from penstock.backends.htcondor import machines, site
from penstock.backends.htcondor.machines import Machine
from penstock.backends.insight import Verdict
from penstock.model.job import Resources
from penstock.settings.htcondor import HTCondorJobSettings

GOOD, WARNING, BAD = Verdict.GOOD, Verdict.WARNING, Verdict.BAD
GIB = 2**30

OLD = "$CondorVersion: 23.9.6 2026-07-12 PackageID: 23.9.6+dfsg-2.1+b10 $"
NEW = "$CondorVersion: 25.14.1 2026-10-16 PackageID: 25.14.1+dfsg-1 $"


@pytest.mark.parametrize(
    ("client", "schedd", "binding", "way", "verdict", "words"),
    [
        (OLD, OLD, "", "itself", GOOD, "HTCondor 23.9"),
        (NEW, OLD, "False\n", "itself", GOOD, "the commands here are 25.14, the schedd is 23.9"),
        (NEW, OLD, "", "itself", BAD, "FS authentication fails between them"),
        (NEW, OLD, "true", "token", WARNING, "FS authentication fails between them"),
        (OLD, NEW, "", "itself", GOOD, "the schedd is 25.14"),
        ("10.9.0", "10.9.0", "", "itself", WARNING, "never tried"),
        ("24.0.1", "24.0.1", "", "itself", GOOD, "HTCondor 24.0 (tried with 23.9 and 25.14)"),
        (OLD, "", "", "itself", WARNING, "unknown"),
    ],
)
def test_versions(client, schedd, binding, way, verdict, words):
    found = site.judge_version(client, schedd, binding, way)
    assert found.verdict is verdict
    assert words in found.found


def test_clocks():
    verdicts = [site.judge_clock(ahead).verdict for ahead in (1, -4, 6, -30, 61, -3600)]
    assert verdicts == [GOOD, GOOD, WARNING, WARNING, BAD, BAD]
    assert "behind" in site.judge_clock(-30).found


def test_our_times_against_htcondors():
    assert not list(site.judge_times(30, 5, 600))
    assert [f.what for f in site.judge_times(20, 5, 9)] == ["timeout", "remember"]


USUAL = {
    "MAX_JOBS_PER_OWNER": "100000",
    "MAX_JOBS_SUBMITTED": "2147483647",
    "MAX_JOBS_PER_SUBMISSION": "20000",
    "MAX_JOBS_RUNNING": "2000",
    "QUEUE_SUPER_USERS": "root, condor, penstock",
    "QUEUE_SUPER_USER_MAY_IMPERSONATE": "^[a-z]+$",
}


def test_limits_of_the_schedd():
    [found] = site.judge_limits(USUAL, max_queued=None)
    assert found.found == "100000 of one user, 20000 of one submission, 2000 running"
    tight = {**USUAL, "MAX_JOBS_PER_OWNER": "50", "MAX_JOBS_PER_SUBMISSION": "500"}
    few, shown = site.judge_limits(tight, max_queued=100)
    assert (few.what, few.verdict) == ("limits", WARNING)
    assert shown.verdict is GOOD
    assert [f.what for f in site.judge_limits(tight, max_queued=40)] == ["most jobs"]
    [silent] = site.judge_limits({}, max_queued=40)
    assert silent.verdict is WARNING


def test_rules_of_the_site():
    assert not list(site.judge_rules({**USUAL, "SYSTEM_PERIODIC_REMOVE": "false"}))
    assert not list(site.judge_rules({"JOB_TRANSFORM_NAMES": " PelicanRetry"}))
    found = list(
        site.judge_rules(
            {
                "JOB_TRANSFORM_NAMES": "DefaultDocker, PelicanRetry",
                "SUBMIT_REQUIREMENT_NAMES": "Project",
                "SYSTEM_PERIODIC_HOLD": "RemoteWallClockTime > 3600",
            }
        )
    )
    assert [f.verdict for f in found] == [WARNING, GOOD, WARNING]
    assert found[0].found == "DefaultDocker may change jobs"
    assert "RemoteWallClockTime > 3600" in found[2].found


PING = """\
         Instruction Authentication Encryption Integrity Decision Identity
               WRITE{how}
"""


@pytest.mark.parametrize(
    ("how", "identity"),
    [
        ("             FS        AES       AES    ALLOW alice@rig.local", "alice@rig.local"),
        ("       IDTOKENS        AES       AES     DENY alice@rig.local", None),
        ("           FAIL       FAIL      FAIL     FAIL FAIL  (use -verbose for more info)", None),
    ],
)
def test_whom_the_schedd_takes_us_for(how, identity):
    assert site.identity_of(PING.format(how=how)) == identity
    assert site.identity_of("") is None


def test_a_refusal_in_the_schedds_words():
    said = (
        "WRITE failed!\nAUTHENTICATE:1004:Failed to authenticate using FS\n"
        "FS:1004:Directory name doesn't match server's network address.\n"
    )
    found = site.refused("alice", said)
    assert found.found.startswith("the schedd refuses it: AUTHENTICATE:1004")
    assert "SEC_FS_ENFORCE_CHANNEL_BINDING" in found.advice


@pytest.mark.parametrize(
    ("way", "owner", "identity", "verdict"),
    [
        ("itself", "alice", "alice@rig.local", GOOD),
        ("token", "alice", "alice@rig.local", GOOD),
        ("itself", "alice", "condor@password", BAD),
        ("token", "alice", "unauthenticated@unmapped", BAD),
        ("itself", None, "root@rig.local", GOOD),
        ("own", "alice", "a.smith@rig.local", GOOD),
        ("own", None, "root@rig.local", BAD),
    ],
)
def test_whose_the_jobs_would_be(way, owner, identity, verdict):
    assert site.judge_identity(way, owner, identity, "penstock").verdict is verdict


@pytest.mark.parametrize(
    ("change", "owner", "identity", "verdict"),
    [
        ({}, "alice", "penstock@rig.local", GOOD),
        ({}, "alice", "other@rig.local", BAD),
        ({}, "alice2", "penstock@rig.local", BAD),
        ({"QUEUE_SUPER_USER_MAY_IMPERSONATE": ""}, "alice", "root@rig.local", BAD),
        ({"QUEUE_SUPER_USER_MAY_IMPERSONATE": "(?&x)"}, "alice", "root@rig.local", GOOD),
    ],
)
def test_super_users_of_the_queue(change, owner, identity, verdict):
    found = site.judge_super({**USUAL, **change}, owner, identity)
    assert found.verdict is verdict
    assert ("--probe" in found.found) == (verdict is GOOD and "root" not in identity)
    assert site.judge_super({}, owner, identity).verdict is WARNING


ANSWER = (
    '"Partitionable"\t64\t262144\t4\ttrue\ttrue\tfalse\n'
    '"Static"\t2\t4096\tundefined\tfalse\ttrue\ttrue\n'
    "nonsense\n"
)
BIG, SMALL = (
    Machine(True, 64, 262144, 4, True, [True, False]),
    Machine(False, 2, 4096, 0, False, [True, True]),
)


def test_machines_and_their_requirements_are_asked_for_at_once():
    words = machines.arguments([None, 'TARGET.Arch == "X86_64" && HasCVMFS'])
    assert words[-2:] == ["(true) =?= true", '(Arch == "X86_64" && HasCVMFS) =?= true']
    assert machines.parse(ANSWER) == [BIG, SMALL]
    assert machines.parse("") == []


def test_a_pool_needs_machines():
    [none] = machines.judge_machines([])
    assert none.verdict is BAD
    [found] = machines.judge_machines([BIG, SMALL])
    assert found.found.startswith("2 with 66 cores, 1 run containers")
    assert [f.verdict for f in machines.judge_machines([SMALL])] == [GOOD, WARNING]


def test_a_pool_needs_a_negotiator():
    assert machines.judge_negotiator("1000\n", 1060.0) is None
    assert machines.judge_negotiator("undefined\n", 1060.0) is None, "it has just begun"
    none, old = machines.judge_negotiator("", 1.0), machines.judge_negotiator("1000 9", 4600.0)
    assert none is not None
    assert none.verdict is BAD
    assert old is not None
    assert old.found == "gave machines to jobs 60 min ago for the last time"


@pytest.mark.parametrize(
    ("usual", "most", "jobs", "meets", "verdict", "words"),
    [
        (Resources(2, 4 * GIB), None, {}, [BIG, SMALL], GOOD, "fits on 2 of 2"),
        (Resources(3, GIB), None, {}, [BIG, SMALL], GOOD, "fits on 1 of 2"),
        (Resources(1, GIB, 1), None, {}, [SMALL], WARNING, "no machine that it may run on has 1 c"),
        (Resources(1, GIB), Resources(65, GIB), {}, [BIG], WARNING, "users may ask for 65 cores"),
        (Resources(1, GIB), None, {"requirements": "HasX"}, [], WARNING, "requirements: HasX"),
        (Resources(1, GIB), None, {"universe": "container"}, [SMALL], BAD, "Apptainer"),
        (Resources(1, GIB), None, {"universe": "container"}, [BIG], GOOD, "fits on 1 of 2"),
    ],
)
def test_jobs_that_could_never_run(usual, most, jobs, meets, verdict, words):
    if "universe" in jobs:
        jobs = {**jobs, "container_image": "/x.sif"}
    settings = HTCondorJobSettings.model_validate(jobs)
    found = machines.judge_fit("a", settings, (usual, most or usual), meets, [BIG, SMALL])
    assert found.verdict is verdict
    assert words in found.found
