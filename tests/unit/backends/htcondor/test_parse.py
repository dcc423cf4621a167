"""HTCondor's words as it said them (23.9), and what they mean."""

from __future__ import annotations

import json

import pytest

from penstock.backends.htcondor import parse
from penstock.model.errors import Unavailable
from penstock.model.ids import BatchId
from penstock.model.job import Exit, Phase

ID = BatchId("0123abcd", "f" * 32, 3)
BASE = {
    "ClusterId": 12,
    "ProcId": 4,
    "Owner": "alice",
    "PenstockTag": ID.tag,
    "QDate": 1000,
    "JobStatus": 1,
    "ExitBySignal": False,
}
RAN = {
    "NumShadowStarts": 1,
    "JobCurrentStartDate": 1100,
    "LastRemoteHost": "slot1_3@node7",
    "VacateReason": "",
    "VacateReasonCode": 0,
}
OURS = "The job attribute PeriodicRemove expression '(JobStatus == 1 && …' evaluated to TRUE"


def job(**changes):
    return parse.to_job(ID, {**BASE, **changes})


@pytest.mark.parametrize(
    ("ad", "phase", "exit", "code", "reason"),
    [
        ({}, Phase.QUEUED, None, None, ""),
        ({"LastRejMatchReason": "no match found "}, Phase.QUEUED, None, None, "no match found"),
        ({"JobStatus": 2, **RAN, "RemoteHost": "s@n"}, Phase.RUNNING, None, None, ""),
        (
            {"JobStatus": 2, **RAN, "RemoteHost": "s@n", "JobCurrentReconnectAttempt": 1},
            Phase.UNKNOWN,
            None,
            None,
            "the machine does not answer; HTCondor tries again",
        ),
        ({"JobStatus": 6, **RAN, "RemoteHost": "s@n"}, Phase.ENDING, None, None, ""),
        (
            {"JobStatus": 7, **RAN, "RemoteHost": "s@n"},
            Phase.UNKNOWN,
            None,
            None,
            "suspended by its machine",
        ),
        ({"JobStatus": 4, **RAN, "ExitCode": 0}, Phase.EXITED, Exit.DONE, 0, ""),
        (
            {"JobStatus": 4, **RAN, "ExitCode": 3},
            Phase.EXITED,
            Exit.FAILED,
            3,
            "exited with code 3",
        ),
        (
            {"JobStatus": 4, **RAN, "ExitCode": 127},
            Phase.EXITED,
            Exit.FAILED,
            127,
            "its Python is not there on the node (exit code 127)",
        ),
        (
            {"JobStatus": 4, **RAN, "ExitCode": 126},
            Phase.EXITED,
            Exit.FAILED,
            126,
            "its Python is there on the node, and this user may not run it (exit code 126)",
        ),
        (
            {"JobStatus": 4, **RAN, "ExitBySignal": True, "ExitSignal": 9},
            Phase.EXITED,
            Exit.FAILED,
            137,
            "killed by SIGKILL",
        ),
        (
            {"JobStatus": 3, **RAN, "RemoteHost": "s@n", "RemoveReason": "via condor_rm"},
            Phase.ENDING,
            None,
            None,
            "via condor_rm",
        ),
        (
            {"JobStatus": 3, **RAN, "RemoveReason": "via condor_rm (by user alice)"},
            Phase.EXITED,
            Exit.CANCELLED,
            None,
            "HTCondor says: via condor_rm (by user alice)",
        ),
        (
            {"JobStatus": 5, "HoldReasonCode": 1, "HoldReason": "via condor_hold (by user alice)"},
            Phase.HELD,
            None,
            None,
            "via condor_hold (by user alice)",
        ),
        (
            {"JobStatus": 5, **RAN, "HoldReasonCode": 1, "HoldReason": "via condor_hold"},
            Phase.EXITED,
            Exit.CANCELLED,
            None,
            "HTCondor held it: via condor_hold",
        ),
        (
            {"JobStatus": 5, "HoldReasonCode": 16, "HoldReason": "Spooling input data files"},
            Phase.QUEUED,
            None,
            None,
            "its files are on the way to the schedd",
        ),
        (
            {"JobStatus": 5, **RAN, "HoldReasonCode": 6, "HoldReason": "Failed to execute 'x'"},
            Phase.EXITED,
            Exit.FAILED,
            None,
            "HTCondor held it: Failed to execute 'x'",
        ),
        (
            {
                "JobStatus": 3,
                **RAN,
                "RemoveReason": OURS,
                "LastHoldReasonCode": 47,
                "LastHoldReason": "The job exceeded allowed execute duration of 00:03",
            },
            Phase.EXITED,
            Exit.TIME_LIMIT,
            None,
            "HTCondor held it: The job exceeded allowed execute duration of 00:03",
        ),
        (
            {"JobStatus": 1, **RAN, "VacateReasonCode": 1005},
            Phase.EXITED,
            Exit.PREEMPTED,
            None,
            "HTCondor evicted it",
        ),
        (
            {
                "JobStatus": 3,
                **RAN,
                "VacateReasonCode": 1005,
                "LastJobStatus": 1,
                "RemoveReason": OURS,
            },
            Phase.EXITED,
            Exit.PREEMPTED,
            None,
            "HTCondor evicted it",
        ),
        (
            {"JobStatus": 1, **RAN},
            Phase.EXITED,
            Exit.LOST,
            None,
            "",
        ),
        (
            {"JobStatus": 3, "RemoveReason": OURS, "LastHoldReasonCode": 16},
            Phase.EXITED,
            Exit.FAILED,
            None,
            "its files never reached the schedd",
        ),
        (
            {
                "JobStatus": 3,
                **RAN,
                "LastJobStatus": 2,
                "RemoveReason": OURS,
                "PenstockTime": 100,
                "JobFinishedHookDone": 1200,
            },
            Phase.EXITED,
            Exit.TIME_LIMIT,
            None,
            "HTCondor removed it after its time",
        ),
        (
            {"JobStatus": 3, **RAN, "LastJobStatus": 2, "RemoveReason": OURS},
            Phase.EXITED,
            Exit.CANCELLED,
            None,
            f"HTCondor says: {OURS}",
        ),
        (
            {
                "JobStatus": 1,
                "NumShadowStarts": 1,
                "VacateReasonCode": 1008,
                "VacateReason": "Job not found at execution machine",
            },
            Phase.EXITED,
            Exit.LOST,
            None,
            "HTCondor says: Job not found at execution machine",
        ),
        ({"JobStatus": 2}, Phase.QUEUED, None, None, ""),
        ({"JobStatus": 42}, Phase.UNKNOWN, None, None, "JobStatus is 42"),
    ],
)
def test_states(ad, phase, exit, code, reason):
    got = job(**ad)
    assert (got.phase, got.exit, got.exit_code, got.reason) == (phase, exit, code, reason)


def test_times_and_places():
    waiting = job()
    assert (waiting.native, waiting.index, waiting.owner) == ("12.4", 4, "alice")
    assert (waiting.submitted, waiting.since, waiting.ends, waiting.node) == (1000, None, None, "")
    running = job(JobStatus=2, **RAN, RemoteHost="slot1_9@node8", PenstockTime=60)
    assert (running.since, running.ends, running.node) == (1100, 1160, "node8")
    over = job(JobStatus=4, ExitCode=0, **RAN, PenstockTime=60)
    assert (over.ends, over.node) == (None, "node7")


def test_a_look():
    foreign = [
        {**BASE, "PenstockTag": "p-ffffffff-" + "0" * 32 + "-0"},
        {**BASE, "PenstockTag": "p-0123abcd-nonsense"},
        {**BASE, "PenstockTag": 3},
        {"ClusterId": 1},
    ]
    gone = {**BASE, "ClusterId": 11, "JobStatus": 4, "ExitCode": 0}
    found = parse.parse_look(json.dumps([gone, BASE, *foreign]).encode(), ID.gateway)
    assert [one.native for one in found] == ["12.4"]
    assert parse.parse_look(b"", ID.gateway) == []
    assert parse.parse_look(b"\n", ID.gateway) == []
    with pytest.raises(Unavailable, match="not complete"):
        parse.parse_look(b"[\n{", ID.gateway)


def test_a_removal_names_exactly_its_jobs():
    text = parse.removal(ID, 'a"b', 7, [4, 1, 2, 3, 9])
    assert text == (
        f'(ClusterId == 7 && PenstockTag =?= "{ID.tag}" && Owner == "a\\"b" '
        "&& ((ProcId >= 1 && ProcId <= 4) || ProcId == 9))"
    )
