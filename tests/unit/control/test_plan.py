"""The reconcile rules, line by line: what is known goes in, actions come out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from penstock.backends.base import Capabilities
from penstock.control.facts import (
    SCHEDULER,
    Adopt,
    Cancel,
    Close,
    Look,
    MarkExited,
    Plan,
    Release,
    Retire,
    Situation,
    Submit,
    Tracked,
)
from penstock.control.plan import LOST, plan
from penstock.model.cluster import BatchRow, RowState
from penstock.model.errors import Rejected, Unavailable, Uncertain
from penstock.model.ids import BatchId
from penstock.model.job import Exit, Job, Phase

CLUSTER = "c" * 32
VISIBILITY = 10.0


def row(sequence: int, count: int = 1, group: str = "cpu", **changes: Any) -> BatchRow:
    base = BatchRow(CLUSTER, sequence, group, "fake", "alice", count, RowState.SUBMITTED, 0.0)
    return replace(base, **changes)


def intended(sequence: int, count: int = 1, group: str = "cpu") -> BatchRow:
    return row(sequence, count, group, state=RowState.INTENDED)


def job(sequence: int, index: int = 0, phase: Phase = Phase.RUNNING, **changes: Any) -> Job:
    base = Job(BatchId("0123abcd", CLUSTER, sequence), index, f"{sequence}.{index}", "alice", phase)
    return replace(base, **changes)


def decide(
    rows: list[Tracked],
    jobs: list[Job],
    *,
    started: float = 100.0,
    complete: bool = True,
    **more: Any,
) -> Plan:
    shown: dict[int, dict[int, Job]] = {}
    for one in jobs:
        shown.setdefault(one.batch.sequence, {})[one.index] = one
    facts: dict[str, Any] = {
        "rows": {tracked.row.sequence: tracked for tracked in rows},
        "jobs": {"fake": shown},
        "looks": {"fake": Look(started, complete)},
        "desired": {},
        "places": {SCHEDULER: "fake", "cpu": "fake"},
        "capabilities": {"fake": Capabilities(max_batch=5, visibility=VISIBILITY)},
        "now": 100.0,
        **more,
    }
    return plan(Situation(**facts))


def settled(one: BatchRow, at: float = 0.0, **more: Any) -> Tracked:
    return Tracked(one, settled_at=at, **more)


# 1. A job of ours that is alive but not wanted


def test_a_job_of_an_unknown_row_is_cancelled() -> None:
    assert decide([], [job(7)]).actions == [Cancel("fake", (job(7),))]


def test_a_released_and_an_exited_index_that_live_are_cancelled() -> None:
    one = settled(row(1, 4, released=frozenset({1}), exited=frozenset({2})))
    jobs = [job(1, index) for index in range(4)]
    answer = decide([one], jobs, desired={"cpu": 2})
    assert answer.actions == [Cancel("fake", (job(1, 1), job(1, 2)))]
    assert answer.awaited == {"fake"}


def test_an_index_beyond_the_batch_is_cancelled() -> None:
    answer = decide([settled(row(1, 2))], [job(1, 0), job(1, 1), job(1, 2)], desired={"cpu": 2})
    assert answer.actions == [Cancel("fake", (job(1, 2),))]


def test_a_job_that_another_backend_shows_too_is_left_to_the_backend_of_its_row() -> None:
    other = settled(row(1, backend="elsewhere"), at=200.0)
    both = {"fake": Capabilities(), "elsewhere": Capabilities()}
    answer = decide([other], [job(1)], desired={"cpu": 1}, capabilities=both)
    assert answer.actions == []
    answer = decide([other], [job(2)], desired={"cpu": 1}, capabilities=both)
    assert answer.actions == [Cancel("fake", (job(2),))]


def test_what_is_over_is_not_cancelled() -> None:
    assert decide([], [job(7, phase=Phase.EXITED)]).actions == []


# 2. Adoption


def test_an_intent_of_which_a_job_is_seen_is_adopted() -> None:
    answer = decide([Tracked(intended(1, 2))], [job(1, 1)], desired={"cpu": 2})
    assert answer.actions == [Adopt(1)]


def test_an_intent_whose_submit_returned_or_whose_job_spoke_is_adopted() -> None:
    answer = decide([settled(intended(1), at=99.0, accepted=True)], [], desired={"cpu": 1})
    assert answer.actions == [Adopt(1)]


# 3. Absence


@pytest.mark.parametrize(
    ("settled_at", "started", "complete"),
    [
        (None, 100.0, True),  # a submit is under way
        (95.0, 100.0, True),  # it may not be visible yet
        (90.0, 100.0, True),  # not strictly later
        (0.0, 100.0, False),  # part of the answer is missing
    ],
)
def test_absence_proves_nothing(settled_at: float | None, started: float, complete: bool) -> None:
    for one in (intended(1), row(1)):
        answer = decide(
            [Tracked(one, settled_at=settled_at, outcome=Uncertain("?"))],
            [],
            started=started,
            complete=complete,
            desired={"cpu": 1},
        )
        assert answer.actions == []
        assert answer.awaited == {"fake"}


def test_an_intent_that_is_provenly_absent_closes() -> None:
    answer = decide([settled(intended(1, 3), at=89.0)], [], desired={"cpu": 3})
    assert answer.actions == [Close(1, LOST, lost=True)]


def test_a_submitted_job_that_is_provenly_absent_has_exited() -> None:
    answer = decide([settled(row(1, 2))], [job(1, 0)], desired={"cpu": 2})
    assert answer.actions == [MarkExited(1, {1: None})]


def test_a_loss_is_made_up_for_once_it_is_known_what_it_means() -> None:
    rows = [settled(row(1, 2)), settled(row(2, group="gpu"))]
    more = {"places": {"cpu": "fake", "gpu": "fake"}, "desired": {"cpu": 2, "gpu": 2}}
    answer = decide(rows, [job(1, 0), job(2)], **more)
    assert answer.actions == [MarkExited(1, {1: None}), Submit("gpu", 1)]
    noted = settled(row(1, 2, exited=frozenset({1})))
    assert decide([noted, rows[1]], [job(1, 0), job(2)], **more).actions == [
        Submit("cpu", 1),
        Submit("gpu", 1),
    ]


def test_an_exited_job_is_noted_at_any_look() -> None:
    over = job(1, 0, Phase.EXITED, exit=Exit.FAILED, exit_code=1)
    answer = decide([Tracked(row(1, 2))], [over, job(1, 1)], complete=False, desired={"cpu": 1})
    assert answer.actions == [MarkExited(1, {0: over})]


def test_a_job_that_never_comes_to_its_end_is_over_after_a_while() -> None:
    ending = job(1, 0, Phase.ENDING)
    tracked = settled(row(1, 2), ending={0: 50.0})
    patient = decide([tracked], [ending, job(1, 1)], now=169.0, desired={"cpu": 2})
    assert patient.actions == []
    assert patient.wake_at == 170.0
    late = decide([tracked], [ending, job(1, 1)], now=170.0, desired={"cpu": 2})
    assert late.actions == [MarkExited(1, {0: ending}), Cancel("fake", (ending,))]


def test_an_exit_report_is_believed_before_any_look_and_the_job_ended() -> None:
    answer = decide([settled(row(1, 1))], [job(1)], desired={"cpu": 0}, reported={1: {0}})
    assert answer.actions == [MarkExited(1, {0: job(1)}), Cancel("fake", (job(1),))]


def test_a_scheduler_that_speaks_is_not_gone_whatever_a_look_shows() -> None:
    one = settled(row(1, group=SCHEDULER))
    assert decide([one], [], desired={SCHEDULER: 1}, heard_at=100.0).actions == []
    answer = decide([one], [], desired={SCHEDULER: 0}, heard_at=99.0)
    assert answer.actions == [MarkExited(1, {0: None}), Close(1)]


def test_a_refused_or_undelivered_submit_closes_its_row_at_once() -> None:
    for error in (Rejected("no such partition"), Unavailable("down")):
        answer = decide([settled(intended(1), at=99.0, outcome=error)], [], desired={"cpu": 0})
        assert answer.actions == [Close(1, str(error))]


def test_a_row_closes_once_nothing_of_it_is_wanted_and_nothing_lives() -> None:
    done = row(1, 2, released=frozenset({0}), exited=frozenset({1}))
    assert decide([settled(done)], [job(1, 0)]).actions == [Cancel("fake", (job(1, 0),))]
    assert decide([settled(done)], []).actions == [Close(1)]
    assert decide([settled(done)], [], complete=False).actions == []
    assert decide([settled(done, at=95.0)], []).actions == []
    # Everything was visible once, so the visibility delay is over.
    assert decide([settled(done, at=95.0, seen={0, 1})], []).actions == [Close(1)]


# 4. and 5. Too few, too many


def test_an_intent_counts_in_full() -> None:
    answer = decide([Tracked(intended(1, 3))], [], desired={"cpu": 4})
    assert answer.actions == [Submit("cpu", 1)]


def test_many_missing_are_submitted_in_batches_as_large_as_the_backend_takes() -> None:
    answer = decide([], [], desired={"cpu": 12})
    assert answer.actions == [Submit("cpu", 5), Submit("cpu", 5), Submit("cpu", 2)]


def test_a_group_on_hold_waits() -> None:
    answer = decide([], [], desired={"cpu": 2}, holds={"cpu": 130.0})
    assert (answer.actions, answer.wake_at, answer.held) == ([], 130.0, {"cpu"})


def test_those_go_first_that_never_ran() -> None:
    one = settled(row(1, 5), registered={4})
    phases = (Phase.RUNNING, Phase.QUEUED, Phase.HELD, Phase.QUEUED, Phase.RUNNING)
    jobs = [job(1, index, phase) for index, phase in enumerate(phases)]
    order = [2, 3, 1]
    for excess in range(1, 4):
        gone = frozenset(order[:excess])
        cancelled = tuple(one for one in jobs if one.index in gone)
        answer = decide([one], jobs, desired={"cpu": 5 - excess}, linked=True)
        assert answer.actions == [Release(1, gone), Cancel("fake", cancelled)]


def test_running_workers_are_let_go_by_their_scheduler() -> None:
    # Index 2 may have registered since the last report, so only the scheduler can tell.
    one = settled(row(1, 3), registered={1})
    jobs = [job(1, 0, Phase.QUEUED), job(1, 1), job(1, 2)]
    answer = decide([one], jobs, desired={"cpu": 1}, linked=True)
    assert answer.actions == [
        Release(1, frozenset({0})),
        Retire("cpu", 1, ((1, 2), (1, 1))),
        Cancel("fake", (jobs[0],)),
    ]


def test_serving_workers_stay_while_nobody_can_move_their_data() -> None:
    one = settled(row(1, 2), registered={0, 1})
    jobs = [job(1, 0), job(1, 1)]
    assert decide([one], jobs, desired={"cpu": 0}, linked=False).actions == []
    asked = decide([one], jobs, desired={"cpu": 0}, linked=True, retiring={"cpu"})
    assert asked.actions == []


def test_retired_workers_are_released_then_cancelled() -> None:
    one = settled(row(1, 2), registered={0, 1})
    jobs = [job(1, 0), job(1, 1)]
    answer = decide([one], jobs, desired={"cpu": 1}, linked=True, retired={1: {0, 9}})
    assert answer.actions == [Release(1, frozenset({0})), Cancel("fake", (jobs[0],))]


def test_newer_batches_go_before_older_ones() -> None:
    rows = [settled(row(1, 1)), settled(row(2, 1))]
    jobs = [job(1, 0, Phase.QUEUED), job(2, 0, Phase.QUEUED)]
    answer = decide(rows, jobs, desired={"cpu": 1})
    assert answer.actions == [Release(2, frozenset({0})), Cancel("fake", (jobs[1],))]


# 6. and the end


def test_a_job_may_wait_for_ever() -> None:
    answer = decide([settled(row(1))], [job(1, 0, Phase.QUEUED)], desired={"cpu": 1}, now=1e9)
    assert answer.actions == []


def test_a_stopping_cluster_gives_who_runs_a_moment() -> None:
    one = settled(row(1, 2), registered={1})
    jobs = [job(1, 0, Phase.QUEUED), job(1, 1)]
    gentle = decide([one], jobs, desired={"cpu": 0}, stopping=True, linked=True)
    assert gentle.actions == [Release(1, frozenset({0})), Cancel("fake", (jobs[0],))]
    forced = decide([one], jobs, desired={"cpu": 0}, stopping=True, forced=True)
    assert forced.actions == [Release(1, frozenset({0, 1})), Cancel("fake", tuple(jobs))]


def test_a_plan_that_is_carried_out_leaves_nothing_to_do() -> None:
    calm = decide([settled(row(1, 2))], [job(1, 0), job(1, 1)], desired={"cpu": 2})
    assert (calm.actions, calm.awaited, calm.held) == ([], set(), set())
