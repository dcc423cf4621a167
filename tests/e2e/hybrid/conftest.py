"""Clusters whose workers are somewhere else than their scheduler."""

import gc

import pytest


@pytest.fixture(autouse=True)
def collected_after_each_test():
    """See ``tests/e2e/local/conftest.py``: ``Gateway.__del__`` must not run in its own loop."""
    gc.disable()
    yield
    gc.collect()
    gc.enable()


def pytest_collection_modifyitems(items):
    """The jobs' Python may be the system's and not the tests', as at a real facility."""
    mark = pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning")
    for item in items:
        if "e2e/hybrid/" in str(item.path):
            item.add_marker(mark)
