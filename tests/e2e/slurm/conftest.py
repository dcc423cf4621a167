"""One gateway of many users, whose clusters are jobs of a real Slurm."""

import pytest

from rigs.facility import running_facility
from rigs.slurm_clusters import BACKEND, profile

JOBS = """
[backends.slurm.jobs]
time = "30 min"
log_directory = "{slurm.directory}/scratch/logs-{{{{user}}}}"
"""

PROFILES = "".join(
    [
        profile("slurm"),
        profile("misled", scheduler='extras = {{ partition = "nowhere" }}'),
        profile(
            "states",
            scheduler='extras = {{ nodelist = "n1" }}',
            workers='extras = {{ nodelist = "n1" }}',
            scavenge='extras = {{ nodelist = "n2", partition = "scavenge" }}',
            late='extras = {{ arguments = ["--begin=now+1hour"] }}',
        ),
        profile("crowded", workers='cores = 60\nthreads = 1\nextras = {{ nodelist = "n2" }}'),
        profile(
            "shared",
            scheduler='extras = {{ log_directory = "/proc/nowhere" }}',
            workers="""
[profiles.shared.workers.default.extras]
workers_per_job = 3
log_directory = "/proc/nowhere"
prolog = ["export OF_THE_SITE='a b'", "export PATH=/site/bin:$PATH"]
""",
        ),
        """
[profiles.absent.scheduler]
backend = "slurm"
python = "/nowhere/bin/python"

[profiles.stumbles.scheduler]
backend = "slurm"
python = "/nowhere/bin/python"

[profiles.stumbles.scheduler.extras]
prolog = ["echo 'no such module: python/4' >&2; false"]
""",
    ]
)


_BOTH = "installed", "newer"

VERSIONS = {
    **dict.fromkeys(("test_acting", "test_backend", "test_doctor"), _BOTH),
    **dict.fromkeys(("test_figures", "test_states"), _BOTH),
    "test_acting_faults": (*_BOTH, "newest"),
}
"""Tests of what Slurm says and is told, for several versions; the others say little more."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    module = metafunc.module.__name__.rpartition(".")[2]
    if module in VERSIONS and "slurm_cluster" in metafunc.fixturenames:
        metafunc.parametrize("slurm_cluster", VERSIONS[module], indirect=True, scope="session")


@pytest.fixture(scope="module")
def facility(unix_users, slurm_cluster):
    config = (BACKEND + JOBS).format(slurm=slurm_cluster) + PROFILES
    with running_facility(unix_users, config) as facility:
        yield facility
