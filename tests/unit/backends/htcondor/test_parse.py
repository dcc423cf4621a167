"""HTCondor's words as it said them (23.9), and what they mean."""

from __future__ import annotations

import json

import pytest

from penstock.backends.htcondor import parse
from penstock.model.errors import Full, Rejected, Unavailable, Uncertain
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
    "NumJobStarts": 0,
    "ExitBySignal": False,
}
RAN = {
    "NumJobStarts": 1,
    "JobCurrentStartDate": 1100,
    "LastRemoteHost": "slot1_3@node7",
    "LastVacateTime": 1200,
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
            {"JobStatus": 2, **RAN, "RemoteHost": "s@n", "JobDisconnectedDate": 1150},
            Phase.UNKNOWN,
            None,
            None,
            "its machine does not answer; HTCondor tries again",
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
            "evicted from its machine",
        ),
        (
            {"JobStatus": 3, **RAN, "VacateReasonCode": 1005, "RemoveReason": OURS},
            Phase.EXITED,
            Exit.PREEMPTED,
            None,
            "evicted from its machine",
        ),
        (
            {"JobStatus": 1, **RAN},
            Phase.EXITED,
            Exit.LOST,
            None,
            "HTCondor lost its machine",
        ),
        (
            {"JobStatus": 3, "RemoveReason": OURS, "LastHoldReasonCode": 16},
            Phase.EXITED,
            Exit.FAILED,
            None,
            "its files never reached the schedd",
        ),
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


@pytest.mark.parametrize(
    ("code", "errors", "kind", "words"),
    [
        (0, "WARNING: whatever", None, ""),
        (None, "", Uncertain, "did not end in time"),
        (1, "", Uncertain, "it said nothing"),
        (-9, "x", Uncertain, "x"),
        (1, "\nERROR: Can't find address of local schedd\n", Unavailable, "Can't find address"),
        (
            1,
            (
                "\nERROR: Failed to connect to local queue manager\nAUTHENTICATE:1003:Failed to "
                "authenticate with any method\n"
            ),
            Unavailable,
            "Failed to connect to local queue manager; AUTHENTICATE:1003",
        ),
        (
            1,
            (
                "\nERROR: Failed to connect to local queue manager\nCEDAR:6001:Failed to connect to "
                "<127.0.0.1:40037>\n"
            ),
            Unavailable,
            "CEDAR:6001",
        ),
        (1, "ERROR: Failed to commit job submission into the queue.\n", Uncertain, "commit"),
        (
            1,
            "ERROR: Failed to commit job submission into the queue.\nERROR: Not welcome here\n",
            Rejected,
            "HTCondor refused the job: Not welcome here",
        ),
        (
            1,
            (
                "\nERROR: Failed to commit job submission into the queue.\nERROR: Setting owner to "
                '"x", which is not a valid user account\n'
            ),
            Rejected,
            "not a valid user account",
        ),
        (
            1,
            (
                "\nERROR: Failed to create proc\nNumber of submitted jobs would exceed "
                "MAX_JOBS_PER_OWNER\n"
            ),
            Full,
            "would exceed MAX_JOBS_PER_OWNER",
        ),
        (
            1,
            (
                "\nERROR: Failed to create proc\nNumber of submitted jobs would exceed "
                "MAX_JOBS_PER_SUBMISSION\n"
            ),
            Rejected,
            "MAX_JOBS_PER_SUBMISSION",
        ),
        (1, "ERROR: Invalid concurrency limit 'b!'\n", Rejected, "Invalid concurrency limit 'b!'"),
    ],
)
def test_how_a_submission_ends(code, errors, kind, words):
    failure = parse.submit_error(code, errors)
    assert type(failure) is (kind or type(None))
    assert words in str(failure or "")


def test_how_a_question_ends():
    assert parse.ask_error("condor_q", 0, "") is None
    for code, errors, words in (
        (None, "", "did not end in time"),
        (1, "\n-- Failed to fetch ads from: <…> : vm\nSECMAN:2007:Read failure", "SECMAN:2007"),
        (1, "Error: (null)\n", "null"),
        (0, "-- Failed to fetch ads from: <…> : vm\n", "HTCondor did not answer"),
    ):
        assert words in str(parse.ask_error("condor_q", code, errors))


def test_how_a_removal_ends():
    absent = "Couldn't find/remove all jobs matching constraint (ClusterId==3)\n"
    assert parse.removal_error(0, "") is None
    assert parse.removal_error(1, absent) is None
    assert parse.was_absent(1, absent)
    outside = f"AUTHENTICATE:1003:Failed to authenticate with any method\n{absent}"
    assert not parse.was_absent(1, outside)
    assert "AUTHENTICATE" in str(parse.removal_error(1, outside))
    assert "in time" in str(parse.removal_error(None, ""))
