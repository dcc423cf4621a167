"""What is true of all tests with real clients of real gateways."""

import gc

import pytest

AS_AT_A_FACILITY = ("e2e/htcondor/", "e2e/hybrid/", "e2e/slurm/", "e2e/users/")


@pytest.fixture(autouse=True)
def collected_by_the_main_thread():
    """Objects of dask_gateway whose start failed are collected here, never in their own loop.

    ``Gateway.__del__`` waits for its event loop; when the garbage collector happens to run in
    that very loop's thread, it waits for itself for ever (dask_gateway 2026.3.0). It also fails with a
    traceback, which Python 3.11 must not print while it parses a module.
    """
    collects = gc.isenabled()
    gc.disable()
    yield
    gc.collect()
    if collects:
        gc.enable()


def pytest_collection_modifyitems(items):
    """The jobs' Python may be the system's and not the tests', as at a real facility."""
    mark = pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning")
    for item in items:
        if any(place in str(item.path) for place in AS_AT_A_FACILITY):
            item.add_marker(mark)
