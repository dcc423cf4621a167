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
CHOSEN = """
cores = 1
max_cores = 4
max_memory = "8 GiB"

[profiles.chosen.workers.default.extras]
request_disk = "2 MiB"
requirements = 'TotalCpus > 0'
rank = "Memory"
concurrency_limits = "licence:2"
periodic_remove = "JobStatus == 1 && time() - QDate > 86400"
pool_time = "1 min"
attributes = {{ isDaskJob = true, Site = 'a "b" \\ \\"c\\" $(ProcId) \\' }}
submit = {{ "+Where" = '"here"' }}

[profiles.chosen.options.account]
type = "select"
choices = {{ cms = "group_cms", ops = "group_ops" }}
target = "workers.extras.accounting_group"
"""
SHORT = """
[profiles.chosen.workers.short.extras]
attributes = {{ isDaskJob = true, Site = "short" }}
"""
PROFILES = "".join(
    [
        profile("htcondor", default="htcondor", never=("htcondor", NEVER)),
        profile("near", "local", default="htcondor", spoiled=("htcondor", UNFETCHED)),
        profile("unfetched", more=UNFETCHED),
        profile(
            "chosen",
            more='extras = {{ accounting_group = "group_daemons" }}',
            default=("htcondor", CHOSEN),
            short=("htcondor", SHORT),
        ),
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
