"""What the ends of Slurm's commands mean, in the words of Slurm 22.05."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.backends.slurm import parse
from penstock.model.errors import Full, Rejected, Unavailable, Uncertain


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
            1,
            (
                "Job violates accounting/QOS policy "
                "(job submit limit, user's size and/or time limits)"
            ),
            parse.OverLimit,
            "Slurm refused the job: Job violates accounting/QOS policy (job submit limit, ",
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
