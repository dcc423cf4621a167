"""Why jobs wait, and how much fits into a queue: the rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control.facts import SCHEDULER, Tracked
from penstock.control.room import Demand, Load, Pressed, divide, refused, shares, taken, try_now
from penstock.control.waiting import LONGEST, Said, Wait, moment, news, wait_of
from penstock.model.cluster import BatchRow, RowState
from penstock.model.job import Job, Phase
from unit.control.test_plan import job

NOW = datetime(2026, 11, 20, 13, 0).timestamp()


def row(sequence: int, count: int, group: str = "cpu") -> Tracked:
    return Tracked(BatchRow("c", sequence, group, "slurm", "alice", count, RowState.SUBMITTED, 0.0))


def wait(jobs: dict[int, Job], group: str = "cpu") -> Wait | None:
    return wait_of([row(3, len(jobs), group)], {3: jobs}, "slurm", NOW)


def queued(index: int, reason: str = "", expected: float | None = None) -> Job:
    return job(3, index, Phase.QUEUED, reason=reason, expected=expected)


def text(jobs: dict[int, Job], group: str = "cpu") -> str:
    found = wait(jobs, group)
    return "" if found is None else found.text


def test_reasons_and_expectations_in_peoples_words() -> None:
    soon, later, tomorrow = NOW + 3900, NOW + 5400, NOW + 86400
    assert text({0: queued(0)}) == ""
    assert text({0: queued(0, "Priority", soon)}, SCHEDULER) == (
        "the scheduler waits in slurm: Priority; slurm expects it at 14:05"
    )
    many = {index: queued(index, "Priority", soon) for index in range(40)}
    assert text(many) == "40 workers wait in slurm: Priority; slurm expects them at 14:05"
    many[7] = queued(7, "Priority", later)
    assert text(many).endswith("slurm expects them from 14:05 to 14:30")
    many[8] = queued(8, "Priority")
    assert text(many).endswith("slurm expects 39 from 14:05 to 14:30")
    held = job(3, 1, Phase.HELD, reason="JobHeldUser\nrm -rf")
    assert text({0: queued(0, "", tomorrow), 1: held}) == (
        "1 worker is held in slurm: JobHeldUser rm -rf. "
        "1 worker waits in slurm; slurm expects it at 2026-11-21 13:00"
    )
    lost = {i: job(3, i, Phase.UNKNOWN, reason="the machine does not answer") for i in (0, 1)}
    assert text(lost) == "2 workers are in an unclear state in slurm: the machine does not answer"
    assert text({0: job(3, 0, Phase.UNKNOWN)}) == ""


def test_what_is_not_wanted_or_runs_does_not_wait() -> None:
    gone = row(3, 2)
    gone.row = replace(gone.row, released=frozenset({0}))
    jobs = {0: queued(0, "Priority"), 1: job(3, 1)}
    assert wait_of([gone], {3: jobs}, "slurm", NOW) is None
    assert wait_of([row(3, 2)], {3: jobs}, "other", NOW) is None


def test_a_time_of_another_day_has_its_date() -> None:
    assert moment(NOW + 3600, NOW) == "14:00"
    assert moment(NOW + 86400, NOW) == "2026-11-21 13:00"


def said_of(jobs: dict[int, Job], times: int = 1) -> Said:
    found = wait(jobs)
    assert found is not None
    return Said(found, 0.0, times, found.phases)


def is_news(said: Said, jobs: dict[int, Job], now: float = LONGEST) -> bool:
    found = wait(jobs)
    assert found is not None
    return news(said, found, wall=NOW, now=now)


def test_only_a_new_reason_a_moved_expectation_or_many_more_are_news() -> None:
    before = {0: queued(0, "Priority", NOW + 7200), 1: queued(1, "Resources")}
    said = said_of(before)
    assert not is_news(said, before)
    assert not is_news(said, {0: before[0]}), "a reason that went away is none"
    assert is_news(said, {**before, 2: queued(2, "QOSMaxJobsPerUserLimit")})
    assert not is_news(said, {**before, 2: queued(2, "Priority")})
    assert is_news(said, {**before, 2: queued(2, "Priority"), 3: queued(3, "Priority")})
    assert not is_news(said, {**before, 0: queued(0, "Priority", NOW + 7200 + 1700)})
    assert is_news(said, {**before, 0: queued(0, "Priority", NOW + 7200 + 1900)})
    assert is_news(said, {**before, 0: queued(0, "Priority", NOW + 3600)})
    assert not is_news(said, {**before, 0: queued(0, "Priority")})


@pytest.mark.parametrize(("times", "silence"), [(1, 60.0), (2, 120.0), (4, 480.0), (99, 3600.0)])
def test_the_more_was_said_the_longer_the_silence(times: int, silence: float) -> None:
    said = said_of({0: queued(0, "Priority")}, times)
    other = {0: queued(0, "Resources")}
    assert not is_news(said, other, silence - 1)
    assert is_news(said, other, silence)


def test_the_first_word_of_another_phase_comes_at_once() -> None:
    priority = {0: queued(0, "Priority")}
    silent = {0: job(3, 0, Phase.UNKNOWN, reason="the machine does not answer")}
    said = said_of(priority)
    assert is_news(said, silent, 1.0)
    for jobs, now in ((silent, 1.0), (priority, 90.0)):
        found = wait(jobs)
        assert found is not None
        said = Said.after(said, found, now)
    assert said.times == 3
    assert not is_news(said, silent, 91.0), "it goes back and forth"


# room in a queue


def test_what_fits_goes_and_the_rest_waits() -> None:
    assert shares({"a": Demand(0, 0, 100)}, 40) == {"a": 40}
    assert shares({"a": Demand(30, 0, 100)}, 40) == {"a": 10}
    assert shares({"a": Demand(60, 0, 100)}, 40) == {"a": 0}


def test_schedulers_come_first() -> None:
    full = {"a": Demand(39, 0, 50), "b": Demand(0, 1, 0)}
    assert shares(full, 40) == {"a": 0, "b": 1}


def test_who_has_less_gets_more() -> None:
    assert shares({"a": Demand(30, 0, 50), "b": Demand(0, 0, 50)}, 40) == {"a": 0, "b": 10}
    assert shares({"a": Demand(5, 0, 50), "b": Demand(0, 0, 50)}, 40) == {"a": 15, "b": 20}
    assert shares({"a": Demand(0, 0, 50), "b": Demand(0, 0, 4)}, 40) == {"a": 36, "b": 4}
    assert shares({"a": Demand(0, 0, 9), "b": Demand(0, 0, 9), "c": Demand(8)}, 9)["a"] == 1


counts = st.integers(0, 60)


@given(
    st.dictionaries(st.text("abc", max_size=3), st.builds(Demand, counts, counts, counts)), counts
)
def test_shares_are_bounded_fair_and_waste_nothing(demands: dict[str, Demand], cap: int) -> None:
    granted = shares(demands, cap)
    free = max(0, cap - sum(demand.waiting for demand in demands.values()))
    wanted = sum(demand.scheduler + demand.workers for demand in demands.values())
    assert sum(granted.values()) == min(free, wanted)
    for one, demand in demands.items():
        assert 0 <= granted[one] <= demand.scheduler + demand.workers
        if granted[one] >= demand.scheduler + demand.workers or not demand.workers:
            continue
        for other, richer in demands.items():
            if granted[other] > richer.scheduler:  # it got workers
                assert richer.waiting + granted[other] <= demand.waiting + granted[one] + 1


def test_places_are_for_the_groups_in_their_order() -> None:
    assert divide(5, {"": 1, "cpu": 3, "gpu": 4}) == {"": 1, "cpu": 3, "gpu": 1}


LOAD = Load(waiting=40, alive=60)


def test_half_of_what_was_too_much_is_tried_at_once() -> None:
    state = refused(None, 100, "limit", load=LOAD, now=5.0)
    assert (state.size, try_now(state, load=LOAD, under_way=False, now=5.0)) == (50, 50)
    assert try_now(state, load=LOAD, under_way=True, now=5.0) == 0
    assert taken(state, 50) == state
    assert refused(state, 50, "limit", load=LOAD, now=6.0).size == 25


def test_a_queue_that_takes_nothing_is_left_alone_longer_and_longer() -> None:
    state: Pressed | None = None
    pauses = []
    for _ in range(8):
        state = refused(state, 1, "limit", load=LOAD, now=100.0)
        pauses.append(state.until - 100.0)
        assert try_now(state, load=LOAD, under_way=False, now=state.until - 1) == 0
        assert try_now(state, load=LOAD, under_way=False, now=state.until) == 1
    assert pauses == [10, 20, 40, 80, 160, 300, 300, 300]


@pytest.mark.parametrize("moved", [Load(39, 60), Load(40, 59)])
def test_a_queue_that_moves_is_tried_again(moved: Load) -> None:
    state = refused(None, 1, "limit", load=LOAD, now=100.0)
    assert try_now(state, load=moved, under_way=False, now=101.0) == 1
    more = taken(state, 1)
    assert (more.size, more.delay) == (2, 0.0), "and more, when that is taken"
