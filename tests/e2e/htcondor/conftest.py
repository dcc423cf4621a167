"""One gateway of many users, whose clusters are jobs of a real HTCondor pool."""

import gc

import pytest

from rigs.facility import running_facility

PROFILES = """
[backends.htcondor]
type = "htcondor"
bin = "{pool.bin}"
config = "{pool.config}"
directory = "{pool.files}"
period = "500 ms"
timeout = "6 s"
visibility = "5 s"
grace = "10 s"

[backends.htcondor.jobs]
time = "30 min"

[backends.htcondor.jobs.attributes]
isDaskJob = true

[profiles.htcondor.scheduler]
backend = "htcondor"
python = "{{python}}"

[profiles.htcondor.workers.default]
backend = "htcondor"
python = "{{python}}"
memory = "1 GiB"
nanny = false

[profiles.misled.scheduler]
backend = "htcondor"
python = "{{python}}"

[profiles.misled.scheduler.extras.submit]
use_x509userproxy = "true"
x509userproxy = "/nowhere/x509up"

[profiles.absent.scheduler]
backend = "htcondor"
python = "/nowhere/bin/python"
"""


@pytest.fixture(scope="module")
def facility(unix_users, condor_pool):
    with running_facility(unix_users, PROFILES.format(pool=condor_pool)) as facility:
        yield facility


@pytest.fixture(autouse=True)
def collected_after_each_test():
    """See ``tests/e2e/local/conftest.py``: ``Gateway.__del__`` must not run in its own loop."""
    gc.disable()
    yield
    gc.collect()
    gc.enable()


def pytest_collection_modifyitems(items):
    """The jobs' Python is the system's and not the tests', as at a real facility."""
    mark = pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning")
    for item in items:
        if "e2e/htcondor/" in str(item.path):
            item.add_marker(mark)
