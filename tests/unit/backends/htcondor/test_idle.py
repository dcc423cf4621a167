"""Why jobs wait: told once by HTCondor, true of all of a submission."""

from __future__ import annotations

import json

import pytest

from penstock.backends.htcondor import idle, parse
from penstock.model.ids import BatchId
from penstock.model.job import Phase

ID = BatchId("0123abcd", "f" * 32, 3)
NOW = 10_000
REFUSED = {
    "LastRejMatchReason": "no match found ",
    "LastRejMatchTime": NOW - 10,
    "AutoClusterId": 1,
}
RUNS = {
    "JobStatus": 2,
    "JobCurrentStartDate": NOW - 5,
    "RemoteHost": "slot1_1@n",
    "AutoClusterId": 1,
    "LastMatchTime": NOW - 5,
}


def reasons(*ads, waited=60):
    base = {
        "ClusterId": 12,
        "Owner": "alice",
        "PenstockTag": ID.tag,
        "QDate": NOW - waited,
        "ServerTime": NOW,
        "JobStatus": 1,
        "NumJobStarts": 0,
    }
    data = json.dumps([{**base, "ProcId": index, **ad} for index, ad in enumerate(ads)])
    return {job.index: job.reason for job in parse.parse_look(data.encode(), ID.gateway)}


@pytest.mark.parametrize(
    ("ads", "expected"),
    [
        ([{}, {}], [idle.NOT_YET, idle.NOT_YET]),
        ([REFUSED, {}, {}], ["no match found"] * 3),
        ([{**REFUSED, **RUNS}, {}], ["", ""]),
        ([RUNS, REFUSED, {}], ["", "", ""]),
        ([RUNS, {**REFUSED, "LastRejMatchTime": NOW - 3}], ["", ""]),
        ([RUNS, {**REFUSED, "LastRejMatchTime": NOW - 2}, {}], ["", *["no match found"] * 2]),
        ([{**REFUSED, "LastMatchTime": NOW - 10}, {}], ["", ""]),
        ([{"AutoClusterId": 1}, {}], ["", ""]),
        ([{"LastMatchTime": NOW - 50}], [""]),
        (
            [{**REFUSED, "LastRejMatchTime": NOW - 901}, {}],
            [f"no match found; {idle.NOT_LATELY}"] * 2,
        ),
        (
            [{**REFUSED, "LastRejMatchTime": NOW - 901, "LastRejMatchReason": "old"}, REFUSED],
            ["no match found"] * 2,
        ),
        ([{"LastRejMatchReason": "whenever"}], ["whenever"]),
        ([{}, {"ClusterId": 13, "AutoClusterId": 2}], [idle.NOT_YET, ""]),
        (
            [{"JobStatus": 5, "HoldReasonCode": 16}, {}],
            ["its files are on the way to the schedd", idle.NOT_YET],
        ),
    ],
)  # fmt: skip
def test_why_jobs_of_a_submission_wait(ads, expected):
    assert reasons(*ads) == dict(enumerate(expected))


def test_a_moment_is_no_wait_worth_a_word():
    assert reasons({}, waited=19) == {0: ""}


def test_only_idle_jobs_are_explained():
    held = {"JobStatus": 5, "HoldReasonCode": 15, "HoldReason": "a person"}
    assert reasons(held, REFUSED) == {0: "a person", 1: "no match found"}
    assert parse.to_job(ID, {"ClusterId": 1, "ProcId": 0, "JobStatus": 1}).phase is Phase.QUEUED
