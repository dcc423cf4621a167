"""The clusters of Slurm that a session of tests shares: the host's, and a later one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rigs.slurm import Slurm
from rigs.slurm_install import later_slurm

PACKAGES = "slurmctld slurmd slurm-client munge slurmrestd slurm-wlm-jwt-plugin slurmdbd mariadb-server-core"


def need_slurm() -> None:
    """Fail, never skip, where Slurm is not installed."""
    lacking = [
        name
        for name in (
            *("slurmctld", "slurmd", "sbatch", "munged", "slurmrestd"),
            *("slurmdbd", "mariadbd"),
        )
        if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None
    ]
    places = ("lib*/slurm*/auth_jwt.so", "lib*/*/slurm*/auth_jwt.so")
    if not any(path for place in places for path in Path("/usr").glob(place)):
        lacking.append("the plugin auth_jwt")
    if lacking:
        pytest.fail(f"{', '.join(lacking)} not found: sudo apt install {PACKAGES}", pytrace=False)


@pytest.fixture(scope="session")
def installed_slurm_cluster() -> Iterator[Slurm]:
    """The session's cluster of the host's Slurm."""
    need_slurm()
    yield from started(Slurm())


@pytest.fixture(scope="session")
def newer_slurm_cluster() -> Iterator[Slurm]:
    """The session's cluster of a later Slurm."""
    yield from started(Slurm(programs=later_slurm("newer")))


@pytest.fixture(scope="session")
def newest_slurm_cluster() -> Iterator[Slurm]:
    """The session's cluster of the latest Slurm."""
    yield from started(Slurm(programs=later_slurm("newest")))


def started(cluster: Slurm) -> Iterator[Slurm]:
    """A cluster as a fixture's generator."""
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def slurm_cluster(request: pytest.FixtureRequest) -> Slurm:
    """The session's cluster, of the host's Slurm unless a test is made for others."""
    found: Slurm = request.getfixturevalue(
        f"{getattr(request, 'param', 'installed')}_slurm_cluster"
    )
    return found


@pytest.fixture
def slurm(slurm_cluster: Slurm) -> Iterator[Slurm]:
    """The session's cluster, without a job of anybody's before and after the test."""
    yield from emptied(slurm_cluster)


@pytest.fixture
def newer_slurm_alone(newer_slurm_cluster: Slurm) -> Iterator[Slurm]:
    """The same of the later one."""
    yield from emptied(newer_slurm_cluster)


def emptied(cluster: Slurm) -> Iterator[Slurm]:
    """The same as the generator of a test's fixture: no job is there before and after."""
    cluster.cancel_all()
    cluster.sweep()
    yield cluster
    cluster.cancel_all()
