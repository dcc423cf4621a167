"""One real gateway of many users a module."""

import gc

import pytest

from rigs.facility import running_facility


@pytest.fixture(scope="module")
def facility(unix_users):
    with running_facility(unix_users) as facility:
        yield facility


@pytest.fixture(autouse=True, scope="module")
def collected_between_tests():
    """Nor while the module's gateway begins and ends, see ``tests/e2e/conftest.py``."""
    gc.disable()
    yield
    gc.collect()
    gc.enable()
