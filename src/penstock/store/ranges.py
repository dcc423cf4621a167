"""Sets of indices as short text: ``{0, 1, 2, 3, 7}`` is ``"0-3,7"``.

A batch of 10,000 workers of which all but one are gone must not cost the journal 50 kB a write.
"""

from __future__ import annotations

from collections.abc import Iterable


def dump(indices: Iterable[int]) -> str:
    """The canonical text of a set of non-negative integers; empty for the empty set."""
    parts: list[str] = []
    first = last = -2
    for index in sorted(set(indices)):
        if index == last + 1:
            last = index
            continue
        if last >= 0:
            parts.append(_part(first, last))
        first = last = index
    if last >= 0:
        parts.append(_part(first, last))
    return ",".join(parts)


def load(text: str) -> frozenset[int]:
    """The set that ``dump`` wrote. Raises ValueError for anything else."""
    if not text:
        return frozenset()
    indices: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        low = int(first)
        high = int(last) if dash else low
        if high < low:
            raise ValueError(f"{part!r} is not a range of indices")
        indices.update(range(low, high + 1))
    return frozenset(indices)


def _part(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
