"""The local backend with jobs of this user, or of another one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from rigs.backends import LocalRig


@pytest.fixture
async def rig() -> AsyncIterator[LocalRig]:
    """Jobs run as whoever runs the tests."""
    made = LocalRig()
    yield made
    await made.aclose()


@pytest.fixture
async def alice(unix_users: tuple[str, str]) -> AsyncIterator[LocalRig]:
    """Jobs run as another user."""
    made = LocalRig(unix_users[0])
    yield made
    await made.aclose()
