"""Durations and sizes as people write them. Pure."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

_SECONDS = {
    "": 1.0, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 0.001,
    "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0,
    "w": 604800.0, "week": 604800.0, "weeks": 604800.0,
}  # fmt: skip

_PREFIXES = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}

_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-z]*)\s*", re.IGNORECASE)
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([kmgtp]?)(i?)(b?)\s*", re.IGNORECASE)

SMALLEST = 2**20
"""Bytes; less memory than this is surely a forgotten unit."""


def parse_duration(value: object) -> float:
    """Seconds of a number, or of text like ``90``, ``"30 min"``, ``"12h"``, ``"1h 30m"``.

    Raises ValueError, also for negative and infinite ones.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str):
        seconds = _sum_of_parts(value)
    else:
        seconds = math.nan
    if not 0.0 <= seconds < math.inf:
        raise ValueError('must be a duration: seconds, or text like "30 min", "12h", "1h 30m"')
    return seconds


def _sum_of_parts(text: str) -> float:
    total, at = 0.0, 0
    for match in _PART.finditer(text):
        unit = _SECONDS.get(match[2].lower())
        if match.start() != at or unit is None or (at and not match[2]):
            return math.nan
        total += float(match[1]) * unit
        at = match.end()
    return total if text and at == len(text) else math.nan


def parse_size(value: object) -> int:
    """Bytes of a number of bytes, or of text like ``"4 GB"`` (10^9), ``"4GiB"`` (2^30).

    As in Dask, a prefix without ``i`` is decimal. Raises ValueError, also for less than 1 MiB.
    """
    size = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        size = float(value)
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        base = 1024 if match[3] else 1000
        size = float(match[1]) * base ** _PREFIXES[match[2].lower()]
    if not math.isfinite(size) or size > 2**60:
        raise ValueError('must be an amount of memory like "4 GB" or "4GiB"')
    if size < SMALLEST:
        raise ValueError('must be at least 1 MiB; was a unit forgotten, as in "4 GiB"?')
    return round(size)


def show_size(size: int) -> str:
    """A size as text that ``parse_size`` reads back, in the largest unit without a fraction."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size % 1024**power == 0:
            return f"{size // 1024**power} {unit}"
    return str(size)


def show_duration(seconds: float) -> str:
    """A duration as text that ``parse_duration`` reads back, in the largest unit without a rest."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds and seconds % length == 0:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds) if seconds.is_integer() else seconds} s"


def _positive(value: object) -> float:
    seconds = parse_duration(value)
    if seconds == 0.0:
        raise ValueError("must be longer than 0")
    return seconds


Duration = Annotated[
    float, BeforeValidator(_positive), PlainSerializer(show_duration, when_used="json")
]
Pace = Annotated[
    float, BeforeValidator(parse_duration), PlainSerializer(show_duration, when_used="json")
]
"""How often something is done: a duration, or 0 for never."""

Size = Annotated[int, BeforeValidator(parse_size), PlainSerializer(show_size, when_used="json")]
