"""One gateway of many users, whose clusters are jobs of a real Slurm."""

import gc

import pytest

from rigs.facility import running_facility

PROFILES = """
[backends.slurm]
type = "slurm"
config = "{slurm.config}"
scratch = "{slurm.directory}/scratch"
period = "500 ms"
timeout = "15 s"
visibility = "5 s"

[backends.slurm.jobs]
time = "30 min"
log_directory = "{slurm.directory}/scratch/logs-{{{{user}}}}"

[profiles.slurm.scheduler]
backend = "slurm"
python = "{{python}}"

[profiles.slurm.workers.default]
backend = "slurm"
python = "{{python}}"
memory = "1 GiB"
nanny = false

[profiles.misled.scheduler]
backend = "slurm"
python = "{{python}}"

[profiles.misled.scheduler.extras]
partition = "nowhere"

[profiles.misled.workers.default]
backend = "slurm"
python = "{{python}}"

[profiles.absent.scheduler]
backend = "slurm"
python = "/nowhere/bin/python"
"""


@pytest.fixture(scope="module")
def facility(unix_users, slurm_cluster):
    with running_facility(unix_users, PROFILES.format(slurm=slurm_cluster)) as facility:
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
        if "e2e/slurm/" in str(item.path):
            item.add_marker(mark)
