"""Durations and sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.settings.units import parse_duration, parse_size, show_duration, show_size


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0.0),
        (1.5, 1.5),
        ("90", 90.0),
        ("30 min", 1800.0),
        ("12h", 43200.0),
        ("1h 30m", 5400.0),
        ("1.5 Days", 129600.0),
        ("2w", 1209600.0),
        ("500 ms", 0.5),
    ],
)
def test_durations(value: object, seconds: float) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "soon", "-1", -1, True, None, "1 fortnight", "h", "1h 30", float("inf"), "1e9", [1]],
)
def test_no_durations(value: object) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("4 GB", 4 * 10**9),
        ("4GiB", 4 * 2**30),
        ("4g", 4 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        (2**30, 2**30),
        ("1073741824", 2**30),
        ("512 mib", 2**29),
    ],
)
def test_sizes(value: object, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize(
    "value", ["", "lots", "4 XB", -1, True, None, "4", 4, "9" * 40, float("nan")]
)
def test_no_sizes(value: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_size(value)


@given(st.integers(2**20, 2**50))
def test_sizes_read_back(size: int) -> None:
    assert parse_size(show_size(size)) == size


@given(st.floats(0.001, 1e9))
def test_durations_read_back(seconds: float) -> None:
    assert parse_duration(show_duration(seconds)) == pytest.approx(seconds)
