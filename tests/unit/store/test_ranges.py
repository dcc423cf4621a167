"""Sets of indices as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.store import ranges


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        (set(), ""),
        ({0}, "0"),
        ({0, 1, 2, 3, 7}, "0-3,7"),
        ({5, 4}, "4-5"),
        ({1, 3, 5}, "1,3,5"),
        (set(range(10_000)), "0-9999"),
    ],
)
def test_text(indices: set[int], text: str) -> None:
    assert ranges.dump(indices) == text
    assert ranges.load(text) == indices


@given(st.frozensets(st.integers(0, 300)))
def test_round_trip(indices: frozenset[int]) -> None:
    assert ranges.load(ranges.dump(indices)) == indices


@pytest.mark.parametrize("text", ["x", "3-1", "1,,2", "-1", "1-"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        ranges.load(text)
