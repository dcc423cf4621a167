from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.agent.rules import (
    Bounds,
    Hysteresis,
    IdleClock,
    Retire,
    absent,
    choose,
    fit,
    in_workers,
    number,
    parse_adapt,
    parse_retire,
)


class TestHysteresis:
    def test_goes_up_at_once(self) -> None:
        follow = Hysteresis(0)
        assert [follow.update(n) for n in (1, 5, 9)] == [1, 5, 9]

    def test_goes_down_to_the_highest_of_the_last_samples(self) -> None:
        follow = Hysteresis(10, samples=3)
        assert [follow.update(n) for n in (2, 4, 3, 1, 0, 0)] == [10, 10, 4, 4, 3, 1]

    def test_a_pause_gives_nothing_away(self) -> None:
        follow = Hysteresis(0, samples=3)
        assert [follow.update(n) for n in (8, 0, 0, 8, 0, 0, 8)] == [8] * 7

    @given(st.integers(0, 50), st.lists(st.integers(0, 50), min_size=1))
    def test_is_never_below_the_wish(self, start: int, wishes: list[int]) -> None:
        follow = Hysteresis(start)
        for wish in wishes:
            assert wish <= follow.update(wish) <= max(start, *wishes)

    @given(st.integers(0, 50), st.integers(0, 50))
    def test_arrives_at_a_steady_wish(self, start: int, wish: int) -> None:
        follow = Hysteresis(start, samples=6)
        for _ in range(6):
            follow.update(wish)
        assert follow.current == wish


class TestBounds:
    @pytest.mark.parametrize(
        ("minimum", "maximum", "count", "result"),
        [(0, None, 7, 7), (2, None, 0, 2), (0, 3, 7, 3), (2, 5, 4, 4), (5, 2, 9, 2), (0, 0, 1, 0)],
    )
    def test_clamp(self, minimum: int, maximum: int | None, count: int, result: int) -> None:
        assert Bounds(True, minimum, maximum).clamp(count) == result

    def test_parse(self) -> None:
        message = {"op": "adapt", "active": True, "minimum": 1, "maximum": None, "new": "key"}
        assert parse_adapt(message) == Bounds(True, 1, None)
        assert parse_adapt({"active": False}) == Bounds(False, 0, None)

    @pytest.mark.parametrize(
        "message",
        [
            None,
            [],
            {},
            {"active": 1},
            {"active": True, "minimum": -1},
            {"active": True, "minimum": True},
            {"active": True, "maximum": "3"},
            {"active": True, "maximum": 2.5},
        ],
    )
    def test_nonsense(self, message: object) -> None:
        assert parse_adapt(message) is None


@pytest.mark.parametrize(
    ("wanted", "present", "nthreads", "workers"),
    [(9, 0, 4, 3), (8, 0, 4, 2), (1, 0, 4, 1), (0, 0, 4, 0), (9, 1, 4, 9), (9, 0, 1, 9)],
)
def test_a_wish_in_threads(wanted: int, present: int, nthreads: int, workers: int) -> None:
    assert in_workers(wanted, present, nthreads) == workers


class TestRetire:
    def test_parse(self) -> None:
        message = {"op": "retire", "id": 7, "count": 3, "names": ["w1-0", "w1-0", 5]}
        assert parse_retire(message) == Retire(7, 3, frozenset({"w1-0", "5"}))
        assert parse_retire({"id": 7, "count": 0, "names": None}) == Retire(7, 0, None)

    @pytest.mark.parametrize(
        "message",
        [
            {},
            {"id": 1},
            {"id": [], "count": 1},
            {"id": 1, "count": -1},
            {"id": 1, "count": 2.5},
            {"id": 1, "count": 1, "names": "w1-0"},
        ],
    )
    def test_nonsense(self, message: dict[str, object]) -> None:
        assert parse_retire(message) is None

    ORDER = (("a", "w1-0"), ("b", "w1-1"), ("c", "w2-0"))

    def test_the_cheapest_first(self) -> None:
        assert choose(self.ORDER, Retire(1, 2, None), set()) == {"a": "w1-0", "b": "w1-1"}

    def test_only_candidates(self) -> None:
        request = Retire(1, 2, frozenset({"w2-0", "w9-9"}))
        assert choose(self.ORDER, request, set()) == {"c": "w2-0"}

    def test_those_that_never_joined_go_first(self) -> None:
        request = Retire(1, 2, frozenset({"w1-0", "w1-1", "w9-9"}))
        assert absent(self.ORDER, request) == ["w9-9"]
        assert absent(self.ORDER, request._replace(wanted=0)) == []
        assert absent(self.ORDER, request._replace(names=None)) == []

    def test_never_one_that_another_request_has(self) -> None:
        assert choose(self.ORDER, Retire(2, 9, None), {"a", "c"}) == {"b": "w1-1"}
        assert choose(self.ORDER, Retire(2, 0, None), set()) == {}


class TestIdleClock:
    def test_runs_only_without_work(self) -> None:
        clock = IdleClock(100.0)
        assert clock.update(101.0, False, 0) == 0.0  # the first look compares with nothing
        assert clock.update(105.0, False, 0) == 4.0
        assert clock.update(106.0, True, 0) == 0.0
        assert clock.update(108.0, False, 0) == 2.0

    def test_what_happened_between_two_looks_counts(self) -> None:
        clock = IdleClock(0.0)
        clock.update(1.0, False, (5, 0))
        assert clock.update(9.0, False, (5, 0)) == 8.0
        assert clock.update(10.0, False, (6, 0)) == 0.0
        assert clock.update(11.0, False, (6, 1)) == 0.0
        assert clock.update(12.0, False, (6, 1)) == 1.0


def test_fit_leaves_the_rest_for_the_next_message() -> None:
    names = {f"w1-{index}" for index in range(100)} | {"ü" * 50}
    sent: set[str] = set()
    rounds = 0
    while sent < names:
        some = fit(names - sent, budget=400)
        assert len(json.dumps(some)) <= 402
        assert some
        sent |= set(some)
        rounds += 1
    assert rounds > 2
    assert fit([]) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), None, "3", 10**400])
def test_number_of_nonsense_is_zero(value: object) -> None:
    assert number(value) == 0.0


@pytest.mark.parametrize("value", [0, 3, -2.5, 2**60])
def test_number(value: float) -> None:
    assert number(value) == value
