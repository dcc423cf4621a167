"""Slurm's own numbers: what its words mean, and that they stay few. Words are real Slurm 22.05's."""

from __future__ import annotations

import pytest

from penstock.backends.slurm import predict
from penstock.backends.slurm.figures import (
    SEVERAL,
    as_figures,
    count,
    count_arguments,
    number_of_tasks,
)
from penstock.backends.slurm.measure import questions
from penstock.backends.slurm.predict import Place, Start, parse_test
from penstock.backends.sums import OTHERS, Sum, limited
from penstock.model.demand import Demand
from penstock.model.errors import Rejected, Unavailable, Uncertain
from penstock.model.job import Resources
from penstock.settings.backends import SlurmJobSettings
from penstock.settings.figures import SlurmFigureSettings

GIB = 2**30


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("N/A", 1),
        ("7", 1),
        ("5-99%5", 95),
        ("1,5,9,20,24", 5),
        ("1-399:2", 200),
        ("0-9,20-40:4%2", 16),
        ("0-99999", 100_000),
        ("1,3,5,...", 3),  # cut off by an older squeue: those that it shows
        ("9-1", 1),
        ("", 1),
    ],
)
def test_tasks_are_counted_and_not_listed(text, number):
    assert number_of_tasks(text) == number


def answer(*lines: tuple[str, ...]) -> str:
    return "".join("#".join(line) + "#\n" for line in lines)


def test_jobs_are_added_up_by_user_partition_and_state():
    text = answer(
        ("ada", "main", "PENDING", "5-99%5", "cpu=2,mem=4G,node=1,billing=2", "Resources"),
        ("ada", "main", "RUNNING", "0", "cpu=2,mem=4G,node=1,billing=2", "None"),
        ("ada", "main", "COMPLETING", "1", "cpu=2,mem=512M,node=1", "None"),
        ("ada", "main,small", "PENDING", "N/A", "cpu=1,mem=1.50T", "Priority"),
        ("bob", "small", "PENDING", "1-399:2", "cpu=1,mem=100", "JobHeldUser"),
        ("bob", "small", "SUSPENDED", "N/A", "nonsense", "a|b,c"),
    )
    assert count(text, "#") == {
        ("ada", "main", "pending"): Sum(95, 190, 95 * 4 * GIB),
        ("ada", "main", "running"): Sum(2, 4, 4.5 * GIB),
        ("ada", SEVERAL, "pending"): Sum(1, 1, 1.5 * 2**40),
        ("bob", "small", "held"): Sum(200, 200, 200 * 100 * 2**20),
        ("bob", "small", "running"): Sum(1, 0, 0),
    }
    assert count("", "#") == {}
    assert "--Format=UserName:#,Partition:#" in " ".join(count_arguments("#"))


def test_half_an_answer_is_none():
    with pytest.raises(Unavailable, match="not complete"):
        count("ada#main#RUNNING#0#cpu=2#None#bob#", "#")


def test_users_beyond_the_limit_are_added_up():
    table = {
        ("ada", "main", "running"): Sum(1, 100, 1),
        ("bob", "main", "running"): Sum(50, 50, 1),
        ("bob", "main", "pending"): Sum(50, 51, 1),
        ("eve", "main", "running"): Sum(1, 3, 5),
        ("zoe", "main", "running"): Sum(2, 2, 7),
        ("zoe", "small", "held"): Sum(9, 0, 0),
    }
    assert limited(table, 2) == {
        ("ada", "main", "running"): Sum(1, 100, 1),
        ("bob", "main", "running"): Sum(50, 50, 1),
        ("bob", "main", "pending"): Sum(50, 51, 1),
        (OTHERS, "main", "running"): Sum(3, 5, 12),
        (OTHERS, "small", "held"): Sum(9, 0, 0),
    }
    assert limited(table, 4) == table


def test_samples_have_the_names_that_are_documented():
    found = {
        (f.name, *f.labels.values()): f.value
        for f in as_figures({("ada", "main", "running"): Sum(2, 4, 6)})
    }
    assert found == {
        ("penstock_slurm_jobs", "ada", "main", "running"): 2,
        ("penstock_slurm_cores", "ada", "main", "running"): 4,
        ("penstock_slurm_memory_bytes", "ada", "main", "running"): 6,
    }


def test_an_expected_start():
    said = (
        "sbatch: Job 9 to start at 1795181892 using 2 processors on nodes n[1-2] in partition x\n"
    )
    assert parse_test(0, said) == Start(1795181892.0, "n[1-2]", "x")
    assert parse_test(0, "sbatch: Job 9 to start at 5 using 1 processors") == Start(5.0, "", "")


@pytest.mark.parametrize(
    ("code", "said", "error", "words"),
    [
        (
            1,
            (
                "sbatch: error: invalid partition specified: nowhere\n"
                "allocation failure: Invalid partition name specified\n"
            ),
            Rejected,
            (
                "Slurm refuses such a job: invalid partition specified: nowhere; "
                "Invalid partition name specified"
            ),
        ),
        (
            1,
            "allocation failure: Requested node configuration is not available\n",
            Rejected,
            "Slurm refuses such a job: Requested node configuration is not available",
        ),
        (
            1,
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller",
            Unavailable,
            "Unable to contact",
        ),
        (1, "allocation failure: Unable to contact slurm controller", Unavailable, "contact"),
        (None, "", Uncertain, "in time"),
        (0, "something new", Rejected, "something new"),
    ],
)
def test_no_expected_start(code, said, error, words):
    with pytest.raises(error, match=words):
        parse_test(code, said)


def test_a_place_is_asked_about_once_with_the_job_of_the_first_profile():
    demands = [
        Demand("a", "python", Resources(2), Resources(8), {"partition": "cms"}),
        Demand("b", "python", Resources(4), Resources(4), {"partition": "cms"}),
        Demand("c", "python", Resources(1), Resources(1), {"partition": "cms", "qos": "high"}),
        Demand("d", "python", Resources(1), Resources(1), {"partition": 7}),
    ]
    more = SlurmFigureSettings.model_validate({"predict": {"x": {"partition": "gpu"}}})
    found = questions(more, demands, SlurmJobSettings(account="phys"))
    assert list(found) == [
        Place("cms", "phys"),
        Place("cms", "phys", "high"),
        Place("gpu", "phys"),
    ]
    words = found[Place("cms", "phys")]
    assert {"--test-only", "--cpus-per-task=2", "--partition=cms", "--account=phys"} <= set(words)


def test_there_are_never_more_questions_than_one_round_may_have():
    demands = [
        Demand("a", "python", Resources(), Resources(), {"partition": f"p{number}"})
        for number in range(2 * predict.MOST)
    ]
    assert len(questions(SlurmFigureSettings(), demands, SlurmJobSettings())) == predict.MOST


def test_a_lacking_prediction_is_a_lacking_sample_that_is_counted():
    found = [
        (f.name, f.labels["partition"], f.value)
        for f in predict.as_figures({Place("a"): 5.0, Place("b"): None})
    ]
    assert found == [
        ("penstock_slurm_predicted_wait_seconds", "a", 5.0),
        ("penstock_slurm_prediction_failed", "a", 0.0),
        ("penstock_slurm_prediction_failed", "b", 1.0),
    ]
