"""One real gateway a module; a test that breaks it on purpose starts its own."""

import gc

import pytest

from rigs.gateway import running_gateway


@pytest.fixture(scope="module")
def gateway():
    with running_gateway() as rig:
        yield rig


@pytest.fixture(autouse=True)
def collected_by_the_main_thread():
    """Objects of dask_gateway whose start failed are collected here, never in their own loop.

    ``Gateway.__del__`` waits for its event loop; when the garbage collector happens to run in
    that very loop's thread, it waits for itself for ever (dask_gateway 2026.3.0).
    """
    gc.disable()
    yield
    gc.collect()
    gc.enable()
