from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rigs.agents import ChannelServer, Rig, keypair, own_python
from rigs.environments import environment


@pytest.fixture(scope="session")
def credentials() -> tuple[str, str]:
    return keypair()


@pytest.fixture
def python(request: pytest.FixtureRequest) -> Path:
    """The newest distributed (the tests' own), or what the test asks for."""
    name = getattr(request, "param", "newest")
    return own_python() if name == "newest" else environment(name)


@pytest.fixture
async def rig(python: Path, tmp_path: Path, credentials: tuple[str, str]) -> AsyncIterator[Rig]:
    server = ChannelServer()
    await server.start()
    rig = Rig(python, tmp_path, server, *credentials)
    yield rig
    await rig.close()
