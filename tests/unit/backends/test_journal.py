"""What follows from a batch's journal and the process table."""

from __future__ import annotations

import json

import pytest

from penstock.backends.local.journal import (
    Ended,
    Look,
    Record,
    Started,
    judge,
    parse,
    strays,
    unrecorded,
)
from penstock.backends.local.proc import Process
from penstock.model.ids import BatchId
from penstock.model.job import Exit, Job, Phase

BATCH = BatchId("0123abcd", "0" * 32, 4)
HEAD = {"boot": "b", "owner": "alice", "uid": 1000, "count": 2, "pid": 41, "start": 900}
LAUNCHER = Process(41, 1, 40, 900, "S", BATCH.tag)
MAIN = Process(42, 41, 42, 901, "S", BATCH.tag, 0, 1000)
RECORD = Record("b", "alice", 1000, 2, 41, 900, {0: Started(42, 901, 10.0)})


def at(*processes: Process, boot: str = "b") -> Look:
    table = {process.pid: process for process in processes}
    return Look.of(now=100.0, boot=boot, node="here", processes=table)


def one(look: Look, record: Record = RECORD, *, cancelled: bool = False) -> Job:
    (job,) = judge(BATCH, record, {0} if cancelled else set(), look)
    assert (job.batch, job.index, job.native, job.owner) == (BATCH, 0, "42", "alice")
    assert (job.node, job.since) == ("here", 10.0)
    return job


def ended(code: int, *, oom: bool = False) -> Record:
    return Record(
        "b", "alice", 1000, 2, 41, 900, RECORD.started, {0: Ended(code, at=50.0, oom=oom)}
    )


def test_parse() -> None:
    lines = [
        HEAD,
        {"index": 0, "pid": 42, "start": 901, "at": 10.0},
        {"index": 1, "pid": 43, "start": 902, "at": 10.5},
        {"index": 1, "code": 137, "oom": True, "at": 20.0},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    started = {0: Started(42, 901, 10.0), 1: Started(43, 902, 10.5)}
    record = Record("b", "alice", 1000, 2, 41, 900, started, {1: Ended(137, 20.0, oom=True)})
    assert parse(text.encode()) == record
    assert record.last is None
    assert parse(f'{text}\n{{"index": 0, "co\n\n'.encode()) == record
    assert parse(f"{text}\n\xff\n[]\n7\nnull\n{{}}\n".encode()) == record


@pytest.mark.parametrize("data", [b"", b"\n", b"{}", b'{"boot": "b"}', b'{"boot": "b", "x": 1}'])
def test_parse_of_nothing(data: bytes) -> None:
    assert parse(data) is None


def test_running() -> None:
    assert one(at(LAUNCHER, MAIN)).phase is Phase.RUNNING
    assert one(at(MAIN)).phase is Phase.RUNNING
    assert one(at(LAUNCHER, MAIN), cancelled=True).phase is Phase.ENDING


def test_one_that_began_after_the_processes_were_listed_is_not_lost() -> None:
    record = Record("b", "alice", 1000, 2, 41, 900, {0: Started(42, 901, 10.0)})
    just_before = Look.of(now=9.9, boot="b", node="here", processes={})
    assert one(just_before, record).phase is Phase.RUNNING
    assert one(just_before, record, cancelled=True).phase is Phase.ENDING
    assert one(at(), record).exit is Exit.LOST


def test_a_stranger_with_its_pid_is_not_it() -> None:
    stranger = Process(42, 1, 42, 5000, "S")
    job = one(at(stranger))
    assert (job.phase, job.exit, job.exit_code) == (Phase.EXITED, Exit.LOST, None)
    assert "launcher was killed" in job.reason


def test_a_zombie_has_ended_and_its_launcher_will_say_how() -> None:
    zombie = Process(42, 41, 42, 901, "Z")
    assert one(at(LAUNCHER, zombie)).phase is Phase.ENDING
    assert one(at(zombie)).exit is Exit.LOST


def test_processes_left_behind_keep_it_alive() -> None:
    child = Process(77, 1, 42, 950, "S", BATCH.tag, 0, 1000)
    assert one(at(child)).phase is Phase.ENDING


def test_a_forged_claim_keeps_nothing_alive() -> None:
    forged = Process(77, 1, 42, 950, "S", BATCH.tag, 0, 1001)
    assert one(at(forged)).phase is Phase.EXITED
    assert strays(BATCH, 0, RECORD, at(forged)) == []


def test_another_boot() -> None:
    job = one(at(LAUNCHER, MAIN, boot="c"))
    assert (job.exit, job.reason) == (Exit.LOST, "this machine was restarted")
    assert one(at(boot="c"), ended(0)).exit is Exit.DONE


@pytest.mark.parametrize(
    ("code", "oom", "cancelled", "exit", "reason"),
    [
        (0, False, False, Exit.DONE, ""),
        (3, False, False, Exit.FAILED, "exited with code 3"),
        (128, False, False, Exit.FAILED, "exited with code 128"),
        (137, False, False, Exit.FAILED, "ended by signal 9 (SIGKILL)"),
        (137, True, False, Exit.FAILED, "out of memory: ended by signal 9 (SIGKILL)"),
        (255, False, False, Exit.FAILED, "exited with code 255"),
        (143, False, True, Exit.CANCELLED, "ended by request"),
        (0, False, True, Exit.CANCELLED, "ended by request"),
    ],
)
def test_ends(code: int, oom: bool, cancelled: bool, exit: Exit, reason: str) -> None:
    job = one(at(), ended(code, oom=oom), cancelled=cancelled)
    assert (job.phase, job.exit, job.exit_code, job.reason) == (Phase.EXITED, exit, code, reason)


def test_cancelled_without_a_launcher() -> None:
    assert one(at(), cancelled=True).exit is Exit.CANCELLED


def test_jobs_without_a_directory() -> None:
    worker = Process(78, 77, 77, 951, "S", BATCH.tag, 0, 1000)
    job = Process(77, 1, 77, 950, "S", BATCH.tag, 0, 1000)
    other = Process(79, 1, 79, 950, "S", BatchId("ffffffff", "0" * 32, 0).tag, 0, 1000)
    nonsense = Process(80, 1, 80, 950, "S", "p-what", 0, 1000)
    dead = Process(81, 1, 81, 949, "Z", BATCH.tag, 0, 1000)
    look = at(worker, job, other, nonsense, dead, LAUNCHER)
    assert unrecorded("0123abcd", [], look) == {(BATCH, 0): job}
    assert unrecorded("0123abcd", [BATCH.tag], look) == {}
