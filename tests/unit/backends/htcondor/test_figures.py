"""HTCondor's own numbers: what its words mean, and that they stay few. Words are a real pool's."""

from __future__ import annotations

import pytest

from penstock.backends.htcondor.figures import as_figures, count, count_slots
from penstock.backends.sums import Sum
from penstock.model.errors import Unavailable

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
