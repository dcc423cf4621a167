"""Lifecycle, limits of time, grants, deaths and words: exact, without I/O."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from penstock.control import deaths, lifecycle, quota, timeouts, words
from penstock.control.channel import ExitReport
from penstock.control.deaths import Health
from penstock.control.facts import Tracked
from penstock.control.timeouts import Facts
from penstock.control.wishes import adapt_message
from penstock.model.cluster import (
    BatchRow,
    Cluster,
    ClusterSpec,
    GroupSpec,
    Limits,
    RowState,
    Scaling,
    Status,
)
from penstock.model.errors import Invalid
from penstock.model.ids import BatchId
from penstock.model.job import Exit, Job, Phase

GROUP = GroupSpec(backend="fake", python="python")


def cluster(status: Status = Status.PENDING, limits: Limits = Limits(), **more: Any) -> Cluster:
    spec = ClusterSpec("any", GROUP, {"cpu": GROUP, "gpu": GROUP}, limits)
    base = Cluster("c" * 32, "alice", "alice", spec, {}, "t", "c", "k", 0.0, status)
    return replace(base, **more)


# lifecycle


def test_a_life() -> None:
    born = cluster()
    runs = lifecycle.running(born, scheduler="tls://a:1", dashboard="", now=5.0)
    assert (runs.status, runs.started_at) == (Status.RUNNING, 5.0)
    assert lifecycle.running(runs, scheduler="tls://a:1", dashboard="", now=6.0) is runs
    moved = lifecycle.running(runs, scheduler="tls://b:1", dashboard="", now=6.0)
    assert (moved.scheduler_address, moved.started_at) == ("tls://b:1", 5.0)
    stops = lifecycle.stopping(runs, reason="first", stop_as=Status.FAILED)
    assert lifecycle.stopping(stops, reason="second") is stops
    assert lifecycle.running(stops, scheduler="tls://c:1", dashboard="", now=7.0) is stops
    over = lifecycle.ended(stops, now=9.0)
    assert (over.status, over.reason, over.stopped_at) == (Status.FAILED, "first", 9.0)
    assert lifecycle.ended(over, now=10.0) is over
    assert lifecycle.ended(runs, now=10.0) is runs


# limits of time


def test_the_start_timeout_runs_only_while_the_job_runs_and_we_listen() -> None:
    waits = cluster()
    assert timeouts.reached(waits, Facts(watching_since=0.0), 1e9) is None
    runs = Facts(watching_since=0.0, scheduler_ran=100.0)
    assert timeouts.reached(waits, runs, 219.9) is None
    verdict = timeouts.reached(waits, runs, 220.0)
    assert verdict is not None
    assert verdict.stop_as is Status.FAILED
    assert "ran for 2 min without reporting" in verdict.reason
    restarted = replace(runs, watching_since=200.0)
    assert timeouts.reached(waits, restarted, 300.0) is None
    assert timeouts.next_limit(waits, restarted) == 320.0
    assert timeouts.reached(replace(waits, status=Status.RUNNING), runs, 1e9) is None


@pytest.mark.parametrize(
    ("limits", "facts", "kind", "words"),
    [
        (Limits(max_lifetime=8 * 3600.0), {"lifetime_ends": 50.0}, "max-lifetime", "of 8 h"),
        (Limits(idle_timeout=20.0), {"idle_since": 30.0}, "idle-timeout", "no tasks for 20 s"),
        (
            Limits(no_client_timeout=45.0),
            {"no_client_since": 5.0},
            "no-client-timeout",
            "No client was connected for 45 s",
        ),
    ],
)
def test_limits_that_stop_a_running_cluster(
    limits: Limits, facts: dict[str, float], kind: str, words: str
) -> None:
    runs = cluster(Status.RUNNING, limits)
    seen = Facts(watching_since=0.0, **facts)
    assert timeouts.next_limit(runs, seen) == 50.0
    assert timeouts.reached(runs, seen, 49.9) is None
    verdict = timeouts.reached(runs, seen, 50.0)
    assert verdict is not None
    assert (verdict.kind, verdict.stop_as) == (kind, Status.STOPPED)
    assert words in verdict.reason
    assert timeouts.reached(runs, Facts(watching_since=0.0), math.inf) is None


def test_a_worker_that_never_arrives_is_silent_only_while_we_could_hear_it() -> None:
    row = BatchRow("c", 1, "cpu", "fake", "alice", 4, RowState.SUBMITTED, 0.0, frozenset({3}))
    one = Tracked(row, ran={0: 10.0, 1: 10.0, 2: 50.0, 3: 10.0}, served={1})
    silent = timeouts.silent_workers
    assert list(silent([one], timeout=30.0, since=0.0, now=39.0)) == []
    assert list(silent([one], timeout=30.0, since=0.0, now=40.0)) == [(1, 0)]
    assert list(silent([one], timeout=30.0, since=20.0, now=49.0)) == []
    assert timeouts.next_silent([one], timeout=30.0, since=20.0) == 50.0
    scheduler = replace(one, row=replace(row, group=""))
    assert list(silent([scheduler], timeout=30.0, since=0.0, now=1e9)) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "1 s"), (90, "90 s"), (120, "2 min"), (5400, "90 min"), (86400, "24 h"), (172800, "2 d")],
)
def test_spans_for_people(seconds: float, text: str) -> None:
    assert timeouts.span(seconds) == text


# grants


def test_a_grant_is_cut_at_the_limit_and_says_so() -> None:
    limited = cluster(limits=Limits(max_workers=10), scaling={"gpu": Scaling(count=4)})
    assert quota.grant(limited, "cpu", 6) == (6, None)
    granted, message = quota.grant(limited, "cpu", 7)
    assert granted == 6
    assert message == (
        "This cluster may have at most 10 workers, and its other groups have 4: "
        "7 were asked for, 6 are granted."
    )
    assert quota.grant(cluster(), "cpu", 10**6) == (10**6, None)
    for senseless in (-1, 10**6 + 1):
        with pytest.raises(Invalid, match="between 0 and 1000000"):
            quota.grant(cluster(), "cpu", senseless)


def test_wishes_follow_the_target_within_bounds() -> None:
    wish = {"cpu": Scaling(adaptive=True, minimum=2, maximum=8), "gpu": Scaling(count=1)}
    adapts = cluster(scaling=wish)
    assert quota.desired(adapts, {"cpu": 5}, None) == {"cpu": 5, "gpu": 1}
    assert quota.desired(adapts, {}, None) == {"cpu": 2, "gpu": 1}
    assert quota.desired(adapts, {}, 6) == {"cpu": 5, "gpu": 1}
    assert quota.desired(adapts, {}, 100) == {"cpu": 8, "gpu": 1}
    assert quota.desired(adapts, {}, 0) == {"cpu": 2, "gpu": 1}
    limited = replace(adapts, spec=replace(adapts.spec, limits=Limits(max_workers=4)))
    assert quota.desired(limited, {}, 100) == {"cpu": 3, "gpu": 1}
    message = {"op": "adapt", "active": True, "minimum": 3, "maximum": 4}
    assert adapt_message(limited) == message


def test_a_stopped_group_shrinks_but_does_not_grow() -> None:
    stopped = cluster(scaling={"cpu": Scaling(count=5, stopped="they die")})
    assert quota.desired(stopped, {"cpu": 3}, None) == {"cpu": 3, "gpu": 0}
    assert quota.desired(stopped, {"cpu": 7}, None) == {"cpu": 5, "gpu": 0}


# deaths


def test_one_death_is_replaced_at_once_and_a_row_of_them_waits_longer_and_longer() -> None:
    health, holds = Health(), []
    for now in range(5):
        health = deaths.died(health, float(now), unserved=0, reason="")
        holds.append(health.not_before - now)
    assert holds == [0.0, 2.0, 4.0, 8.0, 16.0]
    calm = deaths.died(health, 4.0 + deaths.QUIET, unserved=0, reason="")
    assert calm.not_before == 4.0 + deaths.QUIET
    for now in range(5, 30):
        health = deaths.died(health, float(now), unserved=0, reason="")
    assert health.not_before - 29.0 == deaths.CAP


def test_a_group_is_exhausted_by_deaths_in_a_row_that_never_served() -> None:
    health = deaths.died(Health(), 0.0, unserved=4, reason="no module named distributed")
    assert not deaths.exhausted(health, 5)
    assert deaths.exhausted(deaths.died(health, 1.0, unserved=1, reason="x"), 5)
    well = deaths.served(health)
    assert not deaths.exhausted(deaths.died(well, 1.0, unserved=4, reason="x"), 5)
    assert not deaths.exhausted(deaths.died(well, 1.0, unserved=0, reason="x"), 1)


# words


def job(**changes: Any) -> Job:
    base = Job(BatchId("0123abcd", "c" * 32, 3), 4, "1", "alice", Phase.EXITED)
    return replace(base, **changes)


def report(**changes: Any) -> ExitReport:
    base = ExitReport(3, 4, scheduler=False, code=None, reason="", tail="")
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("seen", "said", "phrase"),
    [
        (None, None, "is not in slurm any more"),
        (job(exit=Exit.FAILED, exit_code=1), None, "exited 1"),
        (None, report(code=137, reason="out of memory"), "exited 137: out of memory"),
        (job(phase=Phase.RUNNING), report(code=1), "exited 1"),
        (job(phase=Phase.ENDING), None, "is ending in slurm without coming to an end"),
        (job(exit=Exit.TIME_LIMIT, exit_code=143), None, "reached its time limit"),
        (job(exit=Exit.PREEMPTED, reason="by job 7."), None, "was preempted: by job 7"),
        (job(exit=Exit.FAILED, exit_code=1, reason="a\x1b[2Jb"), None, "exited 1: a [2Jb"),
        (job(phase=Phase.RUNNING), report(reason="ran for 5 min"), "ran for 5 min"),
    ],
)
def test_how_a_job_ended(seen: Job | None, said: ExitReport | None, phrase: str) -> None:
    assert words.how(seen, said, "slurm") == phrase


def test_many_equal_ends_are_one_line() -> None:
    named = [(f"w3-{index}", "exited 1") for index in range(12)] + [("w4-0", "exited 2")]
    assert words.merge(named) == [
        "12 workers exited 1 (w3-0, w3-1, w3-2, …)",
        "worker w4-0 exited 2",
    ]


@pytest.mark.parametrize(
    ("one", "several"),
    [
        ("was preempted: by job 7", "were preempted: by job 7"),
        ("was lost with its node: gone", "were lost with their nodes: gone"),
        ("is not in slurm any more", "are not in slurm any more"),
        ("reached its time limit", "reached their time limit"),
        ("exited 1: it was its own fault", "exited 1: it was its own fault"),
        ("exited", "exited"),
    ],
)
def test_several_ends_are_told_in_the_plural(one: str, several: str) -> None:
    assert words.merge([("w1-0", one)]) == [f"worker w1-0 {one}"]
    assert words.merge([("w1-0", one), ("w1-1", one)]) == [f"2 workers {several} (w1-0, w1-1)"]


def test_a_failure_carries_the_last_lines_and_no_control_characters() -> None:
    output = "\n".join(f"line {number}\x1b[31m" for number in range(100))
    text = words.scheduler_ended("exited 1", output)
    assert text.startswith("The scheduler exited 1. Its last output:\nline 80 [31m\n")
    assert text.endswith("line 99 [31m")
    assert words.scheduler_ended("exited 1", " \n") == (
        "The scheduler exited 1. It left no output."
    )


def test_a_python_that_is_not_on_the_node_is_named() -> None:
    said = "its Python is not there on the node (exit code 127)"
    job = Job(BatchId("g", "c", 1), 0, "1", "al", Phase.EXITED, Exit.FAILED, 127, said)
    assert words.how(job, None, "slurm", "/d/x/bin/python") == (
        "exited 127: its Python /d/x/bin/python is not there on the node (exit code 127)"
    )
    assert words.how(job, None, "slurm") == f"exited 127: {said}"


def test_a_python_that_cannot_even_read_the_agent_is_named_too_old() -> None:
    said = '  File "penstock_agent.py", line 44\n    DEFAULTS: Message = {\nSyntaxError: invalid syntax'
    assert words.scheduler_ended("exited 1", said).startswith(
        "The scheduler exited 1: its Python is too old, Dask clusters need Python 3.8 or newer. "
    )
    traceback = (
        '  File "/a/penstock_agent.py", line 44, in main\n  File "user.py", line 1\nSyntaxError'
    )
    assert "too old" not in words.scheduler_ended("exited 1", traceback)
