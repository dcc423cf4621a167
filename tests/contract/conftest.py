"""Every backend, as one fixture: a test here is a promise that each of them keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from rigs.backends import BackendRig, FakeRig, LocalRig

RIGS = ["fake", "local", "local-as-user"]


@pytest.fixture
def judging_rig(rig: BackendRig) -> BackendRig:
    """A backend that refuses what cannot run."""
    if not rig.judges:
        pytest.skip("the fake takes anything")
    return rig


@pytest.fixture(params=RIGS)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[BackendRig]:
    """One backend with nothing in it; whatever the test leaves running is ended."""
    owner = None
    if request.param == "local-as-user":
        owner = request.getfixturevalue("unix_users")[0]
    made = FakeRig() if request.param == "fake" else LocalRig(owner)
    yield made
    await made.aclose()
