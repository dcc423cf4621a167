"""What a notebook may say, and what is made of it when it is hostile."""

import json

import pytest

from penstock.backends.relay.wire import (
    MAX_JOBS,
    MAX_TEXT,
    Hello,
    decode_batch,
    encode_batch,
    encode_failure,
    encode_jobs,
    parse_failure,
    parse_hello,
    parse_look,
)
from penstock.model.errors import (
    Absent,
    BackendError,
    Full,
    Invalid,
    Rejected,
    Unavailable,
    Uncertain,
)
from penstock.model.ids import BatchId
from penstock.model.job import Batch, Exit, Job, Phase, Resources, Role

GATEWAY, CLUSTER = "0123abcd", "f" * 32
ID = BatchId(GATEWAY, CLUSTER, 3)
ROW = [3, 1, "12.1", "running", None, None, "", "node1", 5.0, 4.0, None, 9.0]


def look(*rows, **more):
    message = {"op": "done", "id": 1, "now": 100.0, "complete": True, "jobs": list(rows), **more}
    return parse_look(message, GATEWAY, CLUSTER, "alice", 100.0)


def test_a_batch_survives_the_wire():
    batch = Batch(
        ID,
        "alice",
        Role.WORKER,
        40,
        ("python3", "x.py", "é\n'"),
        {"A": "b\nc", "E": ""},
        {"f": bytes(range(256)), "empty": b""},
        Resources(0.5, 2**33, 1),
        {"partition": "cms", "n": [1, {"a": None}]},
    )
    said = json.loads(json.dumps(encode_batch(batch)))
    assert decode_batch(said, GATEWAY, CLUSTER, "alice") == batch
    assert CLUSTER not in json.dumps(said)


@pytest.mark.parametrize(
    "change",
    [
        {"count": -1},
        {"count": True},
        {"sequence": "3"},
        {"command": "rm"},
        {"files": {"a": "not base64!"}},
        {"files": [1]},
        {"resources": {"cores": 1}},
        {"role": "king"},
        {"env": None},
    ],
)
def test_what_is_no_batch_is_rejected(change):
    said = encode_batch(Batch(ID, "alice", Role.WORKER, 1, ("x",)))
    with pytest.raises(Rejected, match="no batch"):
        decode_batch({**said, **change}, GATEWAY, CLUSTER, "alice")


def test_jobs_survive_the_wire():
    jobs = (
        Job(ID, 0, "12.0", "alice", Phase.QUEUED, reason="Priority", submitted=1.5, expected=9.0),
        Job(ID, 1, "12.1", "alice", Phase.EXITED, Exit.FAILED, 3, "because", "n1", 2.0, 1.0),
    )
    rows = json.loads(json.dumps(encode_jobs(jobs)))
    assert look(*rows).jobs == jobs


def test_owner_and_cluster_are_the_servers_word():
    [job] = look(ROW).jobs
    assert (job.owner, job.batch) == ("alice", ID)


def test_a_clock_that_is_set_differently_is_corrected():
    [job] = look(ROW, now=40.0).jobs
    assert (job.since, job.submitted, job.expected, job.ends) == (65.0, 64.0, None, 69.0)
    [job] = look(ROW, now=99.0).jobs
    assert job.since == 5.0


@pytest.mark.parametrize(
    "row",
    [
        "job",
        ROW[:-1],
        [*ROW, 1],
        [-1, *ROW[1:]],
        [True, *ROW[1:]],
        [3, 10**9, *ROW[2:]],
        [3, 1, "12.1", "flying", *ROW[4:]],
        [3, 1, "12.1", ["running"], *ROW[4:]],
        [{}, *ROW[1:]],
    ],
)
def test_a_listing_that_makes_no_sense_is_none(row):
    with pytest.raises(Invalid):
        look(ROW, row)


@pytest.mark.parametrize("jobs", [None, {}, "x", [ROW] * (MAX_JOBS + 1)])
def test_a_listing_of_the_wrong_kind_or_size_is_none(jobs):
    with pytest.raises(Invalid):
        look(jobs=jobs)


def test_hostile_values_of_a_job_become_harmless():
    nasty = [3, 1, "x" * 999, "exited", {"a": 1}, -5, "a\x1b[2J\n" + "b" * 9999, 7, "soon", 1e999]
    [job] = look([*nasty, True, [1]]).jobs
    assert (job.exit, job.exit_code, job.node) == (None, None, "")
    assert len(job.native) == 200
    assert job.reason.startswith("a [2J b")
    assert len(job.reason) <= MAX_TEXT
    assert (job.since, job.submitted, job.expected, job.ends) == (None,) * 4


@pytest.mark.parametrize(
    ("error", "read"),
    [
        (Rejected("no"), Rejected),
        (Unavailable("no"), Unavailable),
        (Full("no"), Full),
        (Uncertain("no"), Uncertain),
        (Absent("no"), Absent),
        (BackendError("no"), Uncertain),
    ],
)
def test_errors_survive_the_wire(error, read):
    assert type(parse_failure(encode_failure(error))) is read
    assert str(parse_failure(encode_failure(error))) == "no"


@pytest.mark.parametrize("said", [{}, {"kind": ["x"]}, {"kind": "odd", "text": 7}])
def test_a_failure_that_cannot_be_read_is_uncertain(said):
    assert type(parse_failure(said)) is Uncertain


def test_hello():
    said = {"op": "hello", "protocol": 1, "place": "here\n", "who": "x" * 999}
    assert parse_hello(said) == Hello("here", "x" * 300)
    for change in ({"op": "done"}, {"protocol": 2}, {"place": ""}, {"who": None}):
        with pytest.raises(Invalid):
            parse_hello({**said, **change})
