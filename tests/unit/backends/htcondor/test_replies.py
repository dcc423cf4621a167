"""HTCondor's words when something fails, as it said them (23.9), and what follows."""

from __future__ import annotations

import pytest

from penstock.backends.htcondor import replies
from penstock.model.errors import Absent, Full, Rejected, Unavailable, Uncertain


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
            Absent,
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
            Full,
            "fewer jobs at a time: Failed to create proc; Number of submitted jobs would exceed",
        ),
        (1, "ERROR: Invalid concurrency limit 'b!'\n", Rejected, "Invalid concurrency limit 'b!'"),
    ],
)
def test_how_a_submission_ends(code, errors, kind, words):
    failure = replies.submit_error(code, errors)
    assert type(failure) is (kind or type(None))
    assert words in str(failure or "")


def test_not_to_be_let_in_is_not_to_find_nobody():
    errors = (
        "\nERROR: Failed to connect to queue manager rig@\n"
        "AUTHENTICATE:1003:Failed to authenticate with any method\n"
        "AUTHENTICATE:1004:Failed to authenticate using IDTOKENS\n"
    )
    failure = replies.submit_error(1, errors)
    assert isinstance(failure, Absent)
    words = "HTCondor did not let the user in, will try again: Failed to connect to queue "
    assert str(failure).startswith(words)
    away = replies.submit_error(1, "ERROR: Can't find address of local schedd\n")
    assert str(away).startswith("HTCondor cannot be reached: Can't find address")


def test_how_a_question_ends():
    assert replies.ask_error("condor_q", 0, "") is None
    for code, errors, words in (
        (None, "", "did not end in time"),
        (1, "\n-- Failed to fetch ads from: <…> : vm\nSECMAN:2007:Read failure", "SECMAN:2007"),
        (1, "Error: (null)\n", "null"),
        (0, "-- Failed to fetch ads from: <…> : vm\n", "HTCondor did not answer"),
    ):
        assert words in str(replies.ask_error("condor_q", code, errors))


def test_how_a_removal_ends():
    absent = "Couldn't find/remove all jobs matching constraint (ClusterId==3)\n"
    assert replies.removal_error(0, "") is None
    assert replies.removal_error(1, absent) is None
    assert replies.was_absent(1, absent)
    outside = f"AUTHENTICATE:1003:Failed to authenticate with any method\n{absent}"
    assert not replies.was_absent(1, outside)
    assert "AUTHENTICATE" in str(replies.removal_error(1, outside))
    assert "in time" in str(replies.removal_error(None, ""))
