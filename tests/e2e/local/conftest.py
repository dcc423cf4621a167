"""One real gateway a module; a test that breaks it on purpose starts its own."""

import pytest

from rigs.gateway import running_gateway


@pytest.fixture(scope="module")
def gateway():
    with running_gateway() as rig:
        yield rig
