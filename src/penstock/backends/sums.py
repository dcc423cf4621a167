"""Everybody's jobs added up, for the numbers that batch systems tell of them.

Names of users become labels, so there are never more of them than an admin allows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

OTHERS = "(others)"


@dataclass(slots=True)
class Sum:
    """What some jobs have or wait for: a number, cores, and bytes."""

    jobs: int = 0
    cores: float = 0.0
    memory: float = 0.0

    def add(self, other: Sum, times: int = 1) -> None:
        """Count ``times`` as many more."""
        self.jobs += other.jobs * times
        self.cores += other.cores * times
        self.memory += other.memory * times


def limited(table: Mapping[tuple[str, ...], Sum], users: int) -> dict[tuple[str, ...], Sum]:
    """The same with at most so many users by name; the others, those with the fewest cores, added
    up. The first word of a key is the user."""
    cores: dict[str, tuple[float, int]] = {}
    for key, total in table.items():
        before = cores.get(key[0], (0.0, 0))
        cores[key[0]] = (before[0] + total.cores, before[1] + total.jobs)
    shown = set(sorted(cores, key=lambda user: (*cores[user], user), reverse=True)[:users])
    found: dict[tuple[str, ...], Sum] = defaultdict(Sum)
    for key, total in table.items():
        found[key if key[0] in shown else (OTHERS, *key[1:])].add(total)
    return dict(found)
