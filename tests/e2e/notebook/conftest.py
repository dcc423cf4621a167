"""One gateway whose clusters get their workers from notebooks."""

import gc

import pytest

from rigs.lending import running_lending


@pytest.fixture(scope="module")
def lending():
    with running_lending() as lending:
        yield lending


@pytest.fixture(autouse=True)
def collected_by_the_main_thread():
    """See ``tests/e2e/local/conftest.py``: ``Gateway.__del__`` must not run in its own loop."""
    gc.disable()
    yield
    gc.collect()
    gc.enable()
