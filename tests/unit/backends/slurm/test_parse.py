"""What Slurm says, as Slurm 22.05 said it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.backends.slurm import parse
from penstock.model.errors import Full, Rejected, Unavailable, Uncertain
from penstock.model.ids import BatchId
from penstock.model.job import Exit, Phase

GATEWAY, CLUSTER = "0123abcd", "f" * 32
BATCH = BatchId(GATEWAY, CLUSTER, 3)
SEPARATOR = "|x8f3a|"
SUBMITTED, ENDS = "1795175600", "1795179246"


def line(*fields: str, comment: str = BATCH.tag, reason: str = "None") -> str:
    """One of squeue's: base, task, state, start, status, user, node."""
    base, task, state, start, *rest = fields
    words = (base, task, state, SUBMITTED, start, ENDS, *rest, comment, reason)
    return "".join(f"{word}{SEPARATOR}" for word in words) + "\n"


def look(text: str):
    return parse.parse_look(text, SEPARATOR, GATEWAY)


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
    [job] = look(line("12", "7", state, start, status, "alice", "n1", reason=reason))
    assert (job.batch, job.index, job.native, job.owner) == (BATCH, 7, "12_7", "alice")
    assert (job.phase, job.exit, job.exit_code, job.reason) == (phase, exit, code, said)
    assert job.submitted == 1795175600.0
    assert job.since == (None if phase in (Phase.QUEUED, Phase.HELD) else 1795175646.0)
    waits = phase is Phase.QUEUED and start != "N/A"
    assert job.expected == (1795175700.0 if waits else None), "to the minute"
    runs = phase in (Phase.RUNNING, Phase.ENDING, Phase.UNKNOWN)
    assert job.ends == (1795179246.0 if runs else None)


def test_a_job_without_a_limit_has_no_end() -> None:
    [job] = look(line(*RUNNING).replace(ENDS, "NONE"))
    assert (job.phase, job.ends) == (Phase.RUNNING, None)


def test_a_job_that_workers_share_is_as_many_jobs() -> None:
    text = "".join(
        line("7", task, "RUNNING", "1795175646", "0", "alice", "n1", comment=f"{BATCH.tag} 4x10")
        for task in ("0", "2")
    )
    found = look(text)
    assert [(job.index, job.native) for job in found] == [
        *((index, "7_0") for index in range(4)),
        *((index, "7_2") for index in (8, 9)),
    ]
    beyond = line("7", "3", "RUNNING", "1", "0", "alice", "n1", comment=f"{BATCH.tag} 4x10")
    assert look(beyond) == []


@pytest.mark.parametrize("words", ["99x100", "1x10", "4x9999999", "4x", "4x10 ", "04x10", "x"])
def test_a_comment_that_is_not_quite_ours_is_nobodys(words: str) -> None:
    assert look(line(*RUNNING, comment=f"{BATCH.tag} {words}")) == []


def test_only_jobs_of_this_gateway_with_a_number() -> None:
    other = BatchId("99999999", CLUSTER, 3).tag
    text = (
        line(*RUNNING)
        + line(*RUNNING, comment=other)
        + line(*RUNNING, comment="(null)")
        + line("24", "N/A", "CANCELLED", "N/A", "0", "alice", "")
        + line("25", "N/A", "RUNNING", "1795175646", "0", "alice", "n1")
    )
    assert [job.native for job in look(text)] == ["2_0"]
    assert look("") == []


def test_what_lives_wins_over_what_is_over() -> None:
    over = line("1", "0", "CANCELLED", "1795175600", "15", "alice", "n1")
    for text in (over + line(*RUNNING), line(*RUNNING) + over):
        assert [job.native for job in look(text)] == ["2_0"]
    bobs = line("9", "0", "RUNNING", "1795175646", "0", "bob", "n1")
    assert {job.owner for job in look(line(*RUNNING) + bobs)} == {"alice", "bob"}


def test_nobody_forges_a_line() -> None:
    forged = "x\n" + "|".join(("7", "0", "FAILED", "0", "0", "alice", "n1", BATCH.tag, "None"))
    text = line(*RUNNING, comment=forged) + line(*RUNNING, comment="a|b\r\n||")
    assert look(text) == []


@pytest.mark.parametrize("cut", range(1, len(line(*RUNNING)), 7))
def test_an_answer_that_is_cut_off_is_none(cut: int) -> None:
    with pytest.raises(Unavailable):
        look((line(*RUNNING) * 2)[: len(line(*RUNNING)) + cut])


@given(st.text(max_size=200))
def test_no_answer_is_too_odd(text: str) -> None:
    with contextlib.suppress(Unavailable):
        look(text)


@pytest.mark.parametrize(
    ("code", "errors", "kind", "words"),
    [
        (
            1,
            (
                "sbatch: error: invalid partition specified: nope\n"
                "sbatch: error: Batch job submission failed: Invalid partition name specified\n"
            ),
            Rejected,
            (
                "Slurm refused the job: invalid partition specified: nope; "
                "Batch job submission failed: Invalid partition name specified"
            ),
        ),
        (1, "sbatch: error: Invalid --time specification\n", Rejected, "Invalid --time"),
        (
            1,
            (
                "sbatch: error: Batch job submission failed: Invalid account or account/partition "
                "combination specified\n"
            ),
            Rejected,
            "Invalid account",
        ),
        (
            1,
            (
                "sbatch: error: Batch job submission failed: Unable to contact slurm controller "
                "(connect failure)\n"
            ),
            Unavailable,
            "Unable to contact slurm controller",
        ),
        (
            1,
            (
                "sbatch: error: If munged is up, restart with --num-threads=10\n"
                "sbatch: error: Munge encode failed: Failed to access\n"
                "sbatch: error: Batch job submission failed: Protocol authentication error\n"
            ),
            Unavailable,
            "Protocol authentication error",
        ),
        (
            1,
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n",
            Uncertain,
            "Socket timed out",
        ),
        (
            1,
            (
                "sbatch: error: QOSMaxSubmitJobPerUserLimit\n"
                "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
                "(job submit limit, user's size and/or time limits)\n"
            ),
            Full,
            "Slurm takes no more jobs now: QOSMaxSubmitJobPerUserLimit; ",
        ),
        (
            1,
            (
                "sbatch: error: AssocMaxSubmitJobLimit\n"
                "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
                "(job submit limit, user's size and/or time limits)\n"
            ),
            Full,
            "AssocMaxSubmitJobLimit",
        ),
        (
            1,
            (
                "sbatch: error: QOSMaxWallDurationPerJobLimit\n"
                "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
                "(job submit limit, user's size and/or time limits)\n"
            ),
            Rejected,
            "QOSMaxWallDurationPerJobLimit",
        ),
        (
            -9,
            "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n",
            Full,
            "Slurm temporarily unable to accept job",
        ),
        (
            1,
            "sbatch: error: Batch job submission failed: Resource temporarily unavailable\n",
            Full,
            "Resource temporarily unavailable",
        ),
        (1, "", Uncertain, "it said nothing"),
        (-9, "", Uncertain, "-9"),
        (None, "sbatch: error: Slurm temporarily unable to accept job\n", Uncertain, "in time"),
    ],
)
def test_what_the_end_of_an_sbatch_means(code, errors, kind, words) -> None:
    error = parse.submit_error(code, errors)
    assert type(error) is kind
    assert words in str(error)


def test_warnings_of_a_success_are_no_failure() -> None:
    assert parse.submit_error(0, "sbatch: error: a plugin says something\n") is None


def test_what_the_end_of_a_question_means() -> None:
    assert parse.ask_error("squeue", 0, "") is None
    dead = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"
    hung = "slurm_load_jobs error: Socket timed out on send/recv operation\n"
    for code, errors in ((1, dead), (1, hung), (0, dead), (1, ""), (None, "")):
        assert isinstance(parse.ask_error("squeue", code, errors), Unavailable)


def test_what_the_end_of_a_scancel_means() -> None:
    gone = "scancel: error: Kill job error on job id 5_0: Invalid job id specified\n"
    over = (
        "scancel: error: Kill job error on job id 5_1: Job/step already completing or completed\n"
    )
    assert parse.cancel_error(0, "") is None
    assert parse.cancel_error(1, gone + over) is None
    denied = "scancel: error: Kill job error on job id 5_0: Access/permission denied\n"
    for code, errors, words in (
        (1, gone + denied, "Access/permission denied"),
        (140, "scancel: error: Kill job error: Socket timed out\n", "Socket timed out"),
        (8, "", "said nothing"),
        (None, "", "in time"),
    ):
        error = parse.cancel_error(code, errors)
        assert isinstance(error, Unavailable)
        assert words in str(error)
        assert "Invalid job id" not in str(error)


def test_the_size_of_arrays() -> None:
    text = "MaxArraySize            = 10001\nMaxJobCount             = 20000\n"
    assert parse.max_array_size(text) == 10001
    assert parse.max_array_size("MaxJobCount = 1\n") is None


@given(st.sets(st.integers(0, 60)))
def test_ranges_name_exactly_these(indices: set[int]) -> None:
    named: set[int] = set()
    for part in filter(None, parse.ranges(indices).split(",")):
        first, _, last = part.partition("-")
        named |= set(range(int(first), int(last or first) + 1))
    assert named == indices


def test_ranges_are_short() -> None:
    assert parse.ranges([7, 0, 1, 2, 3, 5]) == "0-3,5,7"
