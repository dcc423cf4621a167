"""The session's HTCondor pools, as fixtures."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from rigs.condor import Condor, started


@pytest.fixture(scope="session")
def condor_pool() -> Iterator[Condor]:
    """The session's pool; ``PENSTOCK_TEST_CONDOR_VERSION`` chooses another version."""
    yield from started(os.environ.get("PENSTOCK_TEST_CONDOR_VERSION", "23.9"))


@pytest.fixture
def condor(condor_pool: Condor) -> Iterator[Condor]:
    """The session's pool, with an empty queue after the test."""
    yield condor_pool
    condor_pool.remove_all()


@pytest.fixture(scope="session")
def newer_condor_pool() -> Iterator[Condor]:
    """The session's other pool."""
    yield from started("25.14")


@pytest.fixture
def newer_condor(newer_condor_pool: Condor) -> Iterator[Condor]:
    """The session's other pool, with an empty queue after the test."""
    yield newer_condor_pool
    newer_condor_pool.remove_all()


@pytest.fixture(params=["condor_pool", "newer_condor_pool"])
def each_condor(request: pytest.FixtureRequest) -> Iterator[Condor]:
    """Either pool, with an empty queue after the test."""
    pool: Condor = request.getfixturevalue(request.param)
    yield pool
    pool.remove_all()
