"""HTCondor's own numbers: what its words mean, and that they stay few. Words are a real pool's."""

from __future__ import annotations

import pytest

from penstock.backends.htcondor.doctor import constraint, judge_ping
from penstock.backends.htcondor.figures import OTHERS, as_figures, count, limited
from penstock.backends.insight import Verdict
from penstock.model.job import Resources

ANSWER = (
    '"ada"\t2\t4\t2048\n'
    '"ada"\t7\t1\t100\n'
    '"ada"\t1\t2\t1024\n'
    '"bob"\t5\tundefined\t"1\\n\\"root\\"\\t2\\t9\\t9"\n'
    '"bob"\t6\t0.5\t1.0\n'
    "root\t2\t9\t9\n"
    '"\\x"\t2\t9\t9\n'
    "nonsense\n"
)


def test_jobs_are_added_up_by_user_and_state():
    assert count(ANSWER) == {
        ("ada", "running"): (2, 5.0, 2148.0),
        ("ada", "idle"): (1, 2.0, 1024.0),
        ("bob", "held"): (1, 0.0, 0.0),
        ("bob", "running"): (1, 0.5, 1.0),
    }
    assert count("") == {}


def test_users_beyond_the_limit_are_added_up():
    sums = {
        ("ada", "running"): (1, 100.0, 1.0),
        ("bob", "running"): (1, 2.0, 3.0),
        ("eve", "running"): (4, 5.0, 6.0),
        ("eve", "held"): (1, 1.0, 1.0),
    }
    assert limited(sums, 1) == {
        ("ada", "running"): (1, 100.0, 1.0),
        (OTHERS, "running"): (5, 7.0, 9.0),
        (OTHERS, "held"): (1, 1.0, 1.0),
    }
    assert limited(sums, 3) == sums


def test_samples_have_the_names_that_are_documented():
    found = {
        (f.name, *f.labels.values()): f.value for f in as_figures({("ada", "idle"): (1, 2, 3)})
    }
    assert found == {
        ("penstock_htcondor_jobs", "ada", "idle"): 1,
        ("penstock_htcondor_cores", "ada", "idle"): 2,
        ("penstock_htcondor_memory_bytes", "ada", "idle"): 3 * 2**20,
    }


PING = """\
         Instruction Authentication Encryption Integrity Decision Identity
                READ             FS        AES       AES    ALLOW root@rig.local
               WRITE       IDTOKENS        AES       AES     {} alice@rig.local
"""


def test_what_the_schedd_allows():
    read, write = judge_ping(PING.format("ALLOW"), "", "alice")
    assert read.verdict is write.verdict is Verdict.GOOD
    assert write.what == "submitting as alice"
    assert write.found == "the schedd allows it to alice@rig.local by IDTOKENS"
    assert judge_ping(PING.format("DENY"), "", None)[1].verdict is Verdict.BAD
    [lost] = judge_ping("", "ERROR: failed to connect", None)
    assert lost.verdict is Verdict.BAD
    assert "failed to connect" in lost.found


@pytest.mark.parametrize(
    ("resources", "requirements", "text"),
    [
        (Resources(1.5, 2**31), None, "TotalSlotCpus >= 1.5 && TotalSlotMemory >= 2048"),
        (
            Resources(1, 2**30, 2),
            'TARGET.Arch == "X86_64" || HasGPU',
            (
                "TotalSlotCpus >= 1 && TotalSlotMemory >= 1024 && TotalSlotGPUs >= 2 && "
                '(Arch == "X86_64" || HasGPU)'
            ),
        ),
    ],
)
def test_which_machines_would_do(resources, requirements, text):
    assert constraint(resources, requirements) == text
