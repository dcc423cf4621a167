"""HTCondor's own numbers: what its words mean, and that they stay few. Words are a real pool's."""

from __future__ import annotations

import pytest

from penstock.backends.htcondor.doctor import constraint, judge_ping
from penstock.backends.htcondor.figures import as_figures, count, count_slots
from penstock.backends.insight import Verdict
from penstock.backends.sums import Sum
from penstock.model.errors import Unavailable
from penstock.model.job import Resources

MIB = 2**20

ANSWER = """\
2 3    4.0                   2048.0               ada
7 1    1.0                   100.0                ada
1 1000 2.0                   1024.0               ada

5 2    undefined             error                bob
6 1    0.5                   real("INF")          bob
"""


def test_jobs_are_added_up_by_user_and_state():
    assert count(ANSWER) == {
        ("ada", "running"): Sum(4, 13.0, 6244 * MIB),
        ("ada", "idle"): Sum(1000, 2000.0, 1024000 * MIB),
        ("bob", "held"): Sum(2, 0.0, 0.0),
        ("bob", "running"): Sum(1, 0.5, 0.0),
    }
    assert count("") == {}
    with pytest.raises(Unavailable):
        count("2 3 4.0")


SLOTS = """\
"Unclaimed"\t"Partitionable"\t64\t54\t4096\t1024
"Drained"\t"Partitionable"\t8\t8\t100\t100
"Claimed"\t"Static"\t2\t2\t10\t10
"Unclaimed"\t"Static"\t1\t1\t10\tundefined
nonsense
"""


def test_machines_are_added_up_by_what_they_do():
    assert count_slots(SLOTS) == {
        ("claimed",): Sum(1, 12, 3082 * MIB),
        ("unclaimed",): Sum(2, 55, 1024 * MIB),
        ("unavailable",): Sum(1, 8, 100 * MIB),
    }


def test_samples_have_the_names_that_are_documented():
    table, slots = {("ada", "idle"): Sum(1, 2, 3)}, {("claimed",): Sum(4, 5, 6)}
    found = {(f.name, *f.labels.values()): f.value for f in as_figures(table, slots)}
    assert found == {
        ("penstock_htcondor_jobs", "ada", "idle"): 1,
        ("penstock_htcondor_cores", "ada", "idle"): 2,
        ("penstock_htcondor_memory_bytes", "ada", "idle"): 3,
        ("penstock_htcondor_pool_slots", "claimed"): 4,
        ("penstock_htcondor_pool_cores", "claimed"): 5,
        ("penstock_htcondor_pool_memory_bytes", "claimed"): 6,
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
