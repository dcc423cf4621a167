"""What Slurm's reasons mean, by all the names that it has for them."""

import pytest

from penstock.backends.slurm.reasons import explained

LONG = "so long a job does not start"
LARGE = "so large a job does not start"
SMALL = "so small a job does not start"
USED_UP = "the account has used up its time"
YOURS = "you have as much as you may at a time"
ACCOUNTS = "your account has as much as it may at a time"
NOT_YOURS = "it is not, or no longer, yours to use"


@pytest.mark.parametrize(
    ("reasons", "meaning"),
    [
        ("AssocMaxWallDurationPerJobLimit QOSMaxWallDurationPerJobLimit PartitionTimeLimit", LONG),
        ("AssocMaxCpuMinutesPerJobLimit QOSMaxMemoryMinutesPerJob QOSMaxGRESMinutesPerJob", LONG),
        (
            "AssocMaxCpuPerJobLimit AssocMaxNodePerJobLimit QOSMaxMemoryPerJob QOSMaxGRESPerNode",
            LARGE,
        ),
        ("AssocMaxMemPerNode QOSMaxCpuPerNode MaxMemPerLimit PartitionNodeLimit", LARGE),
        ("QOSMinCpuNotSatisfied QOSMinGRES QOSMinMemory", SMALL),
        ("AssocGrpCPUMinutesLimit QOSGrpMemoryMinutes AssocGrpWallLimit QOSGrpWallLimit", USED_UP),
        ("QOSUsageThreshold AssociationTimeLimit QOSTimeLimit", USED_UP),
        ("AssocMaxJobsLimit AssocMaxSubmitJobLimit AssociationJobLimit QOSJobLimit", YOURS),
        ("QOSMaxCpuPerUserLimit QOSMaxJobsPerUserLimit QOSMaxNodePerUserLimit", YOURS),
        ("QOSMaxMemoryPerUser QOSMaxSubmitJobPerUserLimit QOSMaxGRESPerUser", YOURS),
        ("AssocGrpCpuLimit AssocGrpJobsLimit QOSGrpMemLimit QOSGrpGRES", ACCOUNTS),
        ("AssocGrpCPURunMinutesLimit QOSGrpMemoryRunMinutes AssocGrpMemRunMinutes", ACCOUNTS),
        ("AssociationResourceLimit QOSResourceLimit MaxCpuPerAccount MaxJobsPerAccount", ACCOUNTS),
        ("InvalidAccount InvalidQOS AccountNotAllowed QOSNotAllowed", NOT_YOURS),
        ("PartitionConfig", "no node of the partition is so large"),
    ],
)
def test_limits_are_told_in_words(reasons, meaning):
    for reason in reasons.split():
        said = explained(reason)
        assert said.startswith(f"{reason}, {meaning}"), said


@pytest.mark.parametrize(
    "reason",
    ["", "Priority", "Resources", "BeginTime", "JobHeldUser", "MaxArraySize", "Licenses", "QOS"],
)
def test_what_says_it_already_stays_as_it_is(reason):
    assert explained(reason) == reason


def test_more_words_than_a_reason_are_left_alone():
    said = "ReqNodeNotAvail, UnavailableNodes:QOSMaxWall"
    assert explained(said) == said
