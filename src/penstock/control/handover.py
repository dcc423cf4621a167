"""One worker follows another whose time is over: when the old one goes.

Workers that are *leaving* (``walltime``) do not count towards what is wanted, so others have been
asked for. Until those serve, the old ones bridge the gap, and go one for one as they come, or at
their last moment. Total jobs stay bounded: those that are wanted, and those that are leaving. That
is more than the cluster's maximum for as long as the change takes; counting the old ones would
mean that a cluster at its maximum loses workers before it gets others.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.control.facts import Plan, Retire, Situation
from penstock.model.cluster import BatchRow

Going = list[tuple[float, int, int]]
"""(last moment, sequence, index), the first to go first."""


def leaving(situation: Situation, group: str, rows: Mapping[int, BatchRow]) -> Going:
    """The workers of a group whose time is nearly over."""
    if situation.stopping:
        return []
    return sorted(
        (last, sequence, index)
        for sequence, row in rows.items()
        if row.group == group and situation.rows[sequence].leaving
        for index, last in situation.rows[sequence].leaving.items()
        if index in row.wanted
    )


def serving(situation: Situation, group: str, rows: Mapping[int, BatchRow]) -> int:
    """How many workers of a group the scheduler has that are not leaving."""
    total = 0
    for sequence, row in rows.items():
        if row.group == group:
            tracked = situation.rows[sequence]
            total += len((tracked.registered & row.wanted) - tracked.leaving.keys())
    return total


def hand_over(
    situation: Situation,
    group: str,
    desired: int,
    going: Going,
    rows: Mapping[int, BatchRow],
    result: Plan,
) -> bool:
    """Let those go that others have followed, and those that have to. Whether somebody goes now."""
    if not going:
        return False
    keep = situation.keep.get(group, desired)
    gaps = max(0, keep - serving(situation, group, rows))
    due = sum(last <= situation.now for last, _, _ in going)
    number = max(due, len(going) - gaps)
    if number < len(going):
        result.wake_at = min(result.wake_at, going[number][0])
    if not number or not situation.linked or group in situation.retiring:
        return False
    names = tuple((sequence, index) for _, sequence, index in going[:number])
    result.actions.append(Retire(group, number, names))
    return True
