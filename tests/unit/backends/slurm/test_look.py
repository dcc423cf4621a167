"""What ``squeue`` says, as Slurm 22.05 said it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.backends.slurm.look import Reader
from penstock.model.errors import Unavailable
from penstock.model.ids import BatchId
from penstock.model.job import Exit, Phase

GATEWAY, CLUSTER = "0123abcd", "f" * 32
BATCH = BatchId(GATEWAY, CLUSTER, 3)
OTHERS = BatchId("99999999", CLUSTER, 3).tag
SEPARATOR = "|x8f3a|"
SUBMITTED, ENDS = "1795175600", "1795179246"


def line(*fields: str, comment: str = BATCH.tag, reason: str = "None") -> str:
    """One of squeue's: base, task, state, start, status, user, node."""
    base, task, state, start, *rest = fields
    words = (base, task, state, SUBMITTED, start, ENDS, *rest, comment, reason)
    return "".join(f"{word}{SEPARATOR}" for word in words) + "\n"


def read(text: str):
    return Reader(GATEWAY).read(text, SEPARATOR)


RUNNING = ("2", "0", "RUNNING", "1795175646", "0", "alice", "n1")


@pytest.mark.parametrize(
    ("fields", "reason", "phase", "exit", "code", "said"),
    [
        (("PENDING", "N/A", "0"), "Priority", Phase.QUEUED, None, None, "Priority"),
        (("PENDING", "N/A", "0"), "None", Phase.QUEUED, None, None, ""),
        (("PENDING", "1795175646", "0"), "Resources", Phase.QUEUED, None, None, "Resources"),
        (("PENDING", "N/A", "0"), "JobHeldUser", Phase.HELD, None, None, "JobHeldUser"),
        (
            ("PENDING", "N/A", "0"),
            "launch failed requeued held",
            Phase.HELD,
            None,
            None,
            "launch failed requeued held",
        ),
        (("CONFIGURING", "1795175646", "0"), "None", Phase.QUEUED, None, None, "CONFIGURING"),
        (("RUNNING", "1795175646", "0"), "None", Phase.RUNNING, None, None, ""),
        (
            ("SUSPENDED", "1795175646", "0"),
            "None",
            Phase.UNKNOWN,
            None,
            None,
            "SUSPENDED, goes on once it is resumed",
        ),
        (("COMPLETING", "1795175646", "15"), "None", Phase.ENDING, None, None, ""),
        (("NEW_STATE", "1795175646", "0"), "None", Phase.UNKNOWN, None, None, "NEW_STATE"),
        (("COMPLETED", "1795175646", "0"), "None", Phase.EXITED, Exit.DONE, 0, ""),
        (
            ("FAILED", "1795175646", "768"),
            "NonZeroExitCode",
            Phase.EXITED,
            Exit.FAILED,
            3,
            "exited with code 3",
        ),
        (
            ("FAILED", "1795175646", "9"),
            "JobLaunchFailure",
            Phase.EXITED,
            Exit.FAILED,
            137,
            "killed by SIGKILL, maybe for its memory; JobLaunchFailure",
        ),
        (
            ("FAILED", "1795175646", str(139 << 8)),
            "NonZeroExitCode",
            Phase.EXITED,
            Exit.FAILED,
            139,
            "killed by SIGSEGV",
        ),
        (
            ("CANCELLED", "1795175646", "15"),
            "None",
            Phase.EXITED,
            Exit.CANCELLED,
            143,
            "Slurm says CANCELLED",
        ),
        (
            ("TIMEOUT", "1795175646", "0"),
            "TimeLimit",
            Phase.EXITED,
            Exit.TIME_LIMIT,
            0,
            "Slurm says TIMEOUT (TimeLimit)",
        ),
        (
            ("NODE_FAIL", "1795175646", "0"),
            "NodeDown",
            Phase.EXITED,
            Exit.LOST,
            0,
            "Slurm says NODE_FAIL (NodeDown)",
        ),
        (
            ("PREEMPTED", "1795175646", "0"),
            "None",
            Phase.EXITED,
            Exit.PREEMPTED,
            0,
            "Slurm says PREEMPTED",
        ),
        (
            ("OUT_OF_MEMORY", "1795175646", "0:125"),
            "OutOfMemory",
            Phase.EXITED,
            Exit.FAILED,
            None,
            "Slurm says OUT_OF_MEMORY (OutOfMemory)",
        ),
    ],
)
def test_states(fields, reason, phase, exit, code, said) -> None:
    state, start, status = fields
    [job] = read(line("12", "7", state, start, status, "alice", "n1", reason=reason))
    assert (job.batch, job.index, job.native, job.owner) == (BATCH, 7, "12_7", "alice")
    assert (job.phase, job.exit, job.exit_code, job.reason) == (phase, exit, code, said)
    assert job.submitted == 1795175600.0
    assert job.since == (None if phase in (Phase.QUEUED, Phase.HELD) else 1795175646.0)
    waits = phase is Phase.QUEUED and start != "N/A"
    assert job.expected == (1795175700.0 if waits else None), "to the minute"
    runs = phase in (Phase.RUNNING, Phase.ENDING, Phase.UNKNOWN)
    assert job.ends == (1795179246.0 if runs else None)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("0", "0:0", 0),
        ("768", "3:0", 3),
        ("65280", "255:0", 255),
        ("9", "0:9", 137),
        ("139", "0:11", 139),
        ("125", "0:125", None),
        ("", "1:", None),
        ("N/A", ":9", None),
    ],
)
def test_codes_as_old_and_new_ones_show_them(old: str, new: str, code: int | None) -> None:
    for status in (old, new):
        [job] = read(line("12", "7", "FAILED", "1795175646", status, "alice", "n1"))
        assert job.exit_code == code


def test_a_job_without_a_limit_has_no_end() -> None:
    [job] = read(line(*RUNNING).replace(ENDS, "NONE"))
    assert (job.phase, job.ends) == (Phase.RUNNING, None)


def test_a_job_that_workers_share_is_as_many_jobs() -> None:
    text = "".join(
        line("7", task, "RUNNING", "1795175646", "0", "alice", "n1", comment=f"{BATCH.tag} 4x10")
        for task in ("0", "2")
    )
    found = read(text)
    assert [(job.index, job.native) for job in found] == [
        *((index, "7_0") for index in range(4)),
        *((index, "7_2") for index in (8, 9)),
    ]
    beyond = line("7", "3", "RUNNING", "1", "0", "alice", "n1", comment=f"{BATCH.tag} 4x10")
    assert read(beyond) == []


@pytest.mark.parametrize("words", ["99x100", "1x10", "4x9999999", "4x", "4x10 ", "04x10", "x"])
def test_a_comment_that_is_not_quite_ours_is_nobodys(words: str) -> None:
    assert read(line(*RUNNING, comment=f"{BATCH.tag} {words}")) == []


def test_only_jobs_of_this_gateway_with_a_number() -> None:
    text = (
        line(*RUNNING)
        + line(*RUNNING, comment=OTHERS)
        + line(*RUNNING, comment="(null)")
        + line("24", "N/A", "CANCELLED", "N/A", "0", "alice", "")
        + line("25", "N/A", "RUNNING", "1795175646", "0", "alice", "n1")
    )
    assert [job.native for job in read(text)] == ["2_0"]
    assert read("") == []


def test_what_lives_wins_over_what_is_over() -> None:
    over = line("1", "0", "CANCELLED", "1795175600", "15", "alice", "n1")
    for text in (over + line(*RUNNING), line(*RUNNING) + over):
        assert [job.native for job in read(text)] == ["2_0"]
    bobs = line("9", "0", "RUNNING", "1795175646", "0", "bob", "n1")
    assert {job.owner for job in read(line(*RUNNING) + bobs)} == {"alice", "bob"}


def test_nobody_forges_a_line() -> None:
    forged = "x\n" + "|".join(("7", "0", "FAILED", "0", "0", "alice", "n1", BATCH.tag, "None"))
    text = line(*RUNNING, comment=forged) + line(*RUNNING, comment="a|b\r\n||")
    assert read(text) == []


@pytest.mark.parametrize("cut", range(1, len(line(*RUNNING)), 7))
def test_an_answer_that_is_cut_off_is_none(cut: int) -> None:
    with pytest.raises(Unavailable):
        read((line(*RUNNING) * 2)[: len(line(*RUNNING)) + cut])


@given(st.text(max_size=200))
def test_no_answer_is_too_odd(text: str) -> None:
    with contextlib.suppress(Unavailable):
        read(text)


ROWS = st.lists(
    st.builds(
        lambda task, state, owner, comment: line(
            "7", task, state, "1795175646", "0", owner, "n1", comment=comment
        ),
        task=st.sampled_from(["0", "1", "N/A"]),
        state=st.sampled_from(["PENDING", "RUNNING", "FAILED"]),
        owner=st.sampled_from(["alice", "bob"]),
        comment=st.sampled_from([BATCH.tag, f"{BATCH.tag} 2x4", "", OTHERS]),
    ),
    max_size=4,
)


@given(st.lists(ROWS, max_size=4))
def test_what_is_remembered_changes_nothing(answers: list[list[str]]) -> None:
    reader = Reader(GATEWAY)
    for number, rows in enumerate(answers):
        text = "".join(rows)
        again = text.replace(SEPARATOR, f"|{number}|")
        assert reader.read(again, f"|{number}|") == read(text)


def test_what_looks_the_same_is_the_same_job() -> None:
    reader = Reader(GATEWAY)
    text = line(*RUNNING) + line("2", "1", *RUNNING[2:])
    first = reader.read(text, SEPARATOR)
    second = reader.read(text.replace("RUNNING", "COMPLETING", 1), SEPARATOR)
    assert [a is b for a, b in zip(first, second, strict=True)] == [False, True]
    assert first[0].batch is first[1].batch is second[0].batch


def test_a_garbled_answer_is_not_remembered() -> None:
    reader = Reader(GATEWAY)
    [job] = reader.read(line(*RUNNING), SEPARATOR)
    with pytest.raises(Unavailable):
        reader.read(line(*RUNNING)[:-9], SEPARATOR)
    assert reader.read(line(*RUNNING), SEPARATOR)[0] is job
