"""One gateway of many users, whose clusters are jobs of a real HTCondor pool."""

import pytest

from rigs.condor_clusters import backend, profile
from rigs.facility import running_facility

MORE = """
lease = "20 s"

[backends.htcondor.jobs]
time = "30 min"

[backends.htcondor.jobs.attributes]
isDaskJob = true
"""
UNFETCHED = 'extras = {{ transfer_input_files = ["/nowhere/data"] }}'
NEVER = """
[profiles.htcondor.workers.never.extras]
requirements = 'Name == "nowhere"'
periodic_remove = "JobStatus == 1 && time() - QDate > 20"
"""
PROFILES = "".join(
    [
        profile("htcondor", default="htcondor", never=("htcondor", NEVER)),
        profile("near", "local", default="htcondor", spoiled=("htcondor", UNFETCHED)),
        profile("unfetched", more=UNFETCHED),
        profile(
            "misled",
            more="""
[profiles.misled.scheduler.extras.submit]
use_x509userproxy = "true"
x509userproxy = "/nowhere/x509up"
""",
        ),
        """
[profiles.absent.scheduler]
backend = "htcondor"
python = "/nowhere/bin/python"
""",
    ]
)


@pytest.fixture(scope="package")
def facility(unix_users, condor_pool):
    with running_facility(
        unix_users, backend("htcondor", condor_pool, MORE) + PROFILES
    ) as facility:
        yield facility
