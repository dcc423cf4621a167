"""Every backend, as one fixture: a test here is a promise that each of them keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from penstock.backends.slurm.sudo import Sudo
from rigs.backends import BackendRig, FakeRig, LocalRig
from rigs.condor_jobs import CondorRig
from rigs.relay import RelayRig
from rigs.slurm_jobs import SlurmRig

RIGS = [
    *("fake", "local", "local-as-user", "slurm", "slurm-by-sudo", "newer-slurm"),
    *("htcondor", "htcondor-token"),
]


@pytest.fixture(params=[*RIGS, "notebook"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[BackendRig]:
    """One backend with nothing in it; whatever the test leaves running is ended."""
    made = _make(request)
    yield made
    await made.aclose()


@pytest.fixture(params=[name for name in RIGS if name != "fake"])
async def judging_rig(request: pytest.FixtureRequest) -> AsyncIterator[BackendRig]:
    """One that refuses what cannot run; the fake takes anything."""
    made = _make(request)
    yield made
    await made.aclose()


def _make(request: pytest.FixtureRequest) -> BackendRig:
    if request.param == "fake":
        return FakeRig()
    if request.param == "notebook":  # which judges nothing itself
        return RelayRig()
    if request.param.startswith("htcondor"):  # whose jobs are never root's
        owner = request.getfixturevalue("unix_users")[0]
        way = request.param.partition("-")[2] or "itself"
        return CondorRig(request.getfixturevalue("condor"), owner, way)
    if request.param == "newer-slurm":
        return SlurmRig(request.getfixturevalue("newer_slurm_alone"), None, None)
    other = "-" in request.param
    owner = request.getfixturevalue("unix_users")[0] if other else None
    if request.param.startswith("slurm"):
        way = Sudo(request.getfixturevalue("slurm_helper"), timeout=30.0) if other else None
        return SlurmRig(request.getfixturevalue("slurm"), owner, way)
    return LocalRig(owner)
