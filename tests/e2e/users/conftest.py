"""One real gateway of many users a module."""

import gc

import pytest

from rigs.facility import running_facility


@pytest.fixture(scope="module")
def facility(unix_users):
    with running_facility(unix_users) as facility:
        yield facility


@pytest.fixture(autouse=True, scope="module")
def collected_by_the_main_thread():
    """See ``tests/e2e/local/conftest.py``: ``Gateway.__del__`` must not run in its own loop.

    It also fails with a traceback, which Python 3.11 must not print while it parses a module.
    """
    gc.disable()
    yield
    gc.collect()
    gc.enable()


@pytest.fixture(autouse=True)
def collected_after_each_test():
    """Here, in the main thread."""
    yield
    gc.collect()


def pytest_collection_modifyitems(items):
    """The jobs' Python is the system's and not the tests', as at a real facility."""
    mark = pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning")
    for item in items:
        if "e2e/users/" in str(item.path):
            item.add_marker(mark)
