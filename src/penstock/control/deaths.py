"""How a group of workers that die goes on: replaced with back-off, and not for ever.

A single death is replaced at once. Deaths that follow each other wait longer and longer, so that
a broken node or file system is not hammered. Workers that die in a row without one of them ever
having served mean that none will: then the group stops, and the cluster lives on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from penstock.control.facts import NEVER

BASE = 2.0
CAP = 120.0
QUIET = 300.0
"""Seconds without a death after which a group counts as healthy again."""


@dataclass(frozen=True, slots=True)
class Health:
    """A group's recent history: unserved deaths in a row, and when it may submit again."""

    failures: int = 0
    level: int = 0
    last: float = NEVER
    not_before: float = NEVER
    reason: str = ""


def died(health: Health, now: float, *, unserved: int, reason: str) -> Health:
    """One or more workers ended unasked; ``unserved`` of them had never served."""
    level = health.level if now - health.last < QUIET else 0
    delay = 0.0 if level == 0 else min(CAP, BASE ** min(level, 10))
    return Health(
        failures=health.failures + unserved,
        level=level + 1,
        last=now,
        not_before=max(health.not_before, now + delay),
        reason=reason if unserved else health.reason,
    )


def served(health: Health) -> Health:
    """A worker of the group has registered: whatever failed before, it is possible."""
    return replace(health, failures=0, reason="") if health.failures else health


def exhausted(health: Health, tries: int) -> bool:
    """Whether the group has failed often enough to stop."""
    return health.failures >= tries
