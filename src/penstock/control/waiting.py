"""Why jobs wait, in people's words: reasons and expectations of the batch system, without a flood.

A queue's state changes all the time: reasons go back and forth, expectations move by minutes with
every job that others submit. Told as it comes, that is noise; told once, it goes stale. So
something is news when a reason is new or the expectation moved a lot (:func:`news`), and the more
was said already, the longer the silence. Only what is of a new kind altogether (the first job that
is held, the first whose machine is silent) breaks it: no word about the queue hides that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from penstock.control.channel import printable
from penstock.control.facts import SCHEDULER, Jobs, Tracked
from penstock.model.job import Job, Phase

SHORTEST, LONGEST = 60.0, 3600.0
"""Seconds of silence after the first word about a wait, and at most."""

MOVED = 600.0
"""Seconds by which an expectation has to move to be news; a quarter of what is left, if more."""

_NO_JOBS: Mapping[int, Job] = {}
_LENGTH = 2000
_DOES = {
    Phase.QUEUED: ("waits", "wait"),
    Phase.HELD: ("is held", "are held"),
    Phase.UNKNOWN: ("is in an unclear state", "are in an unclear state"),
}
"""What is worth a word while it lasts: the last, while a batch system tries to reach a machine."""


@dataclass(frozen=True, slots=True)
class Wait:
    """What is to be said of a cluster's waiting jobs in one backend.

    ``kinds``: what makes it a different story, as does a ``number`` that doubled. ``first`` and
    ``last``: when the first and the last of them are expected to start, seconds since the epoch,
    None when nobody says.
    """

    text: str
    kinds: frozenset[tuple[bool, Phase, str]]
    number: int
    first: float | None
    last: float | None

    @property
    def phases(self) -> frozenset[Phase]:
        """The phases that it tells of."""
        return frozenset(phase for _, phase, _ in self.kinds)


@dataclass(frozen=True, slots=True)
class Said:
    """The last that was said, when (steady clock), how often, and of which phases ever."""

    wait: Wait
    at: float
    times: int
    phases: frozenset[Phase]

    @classmethod
    def after(cls, said: Said | None, wait: Wait, now: float) -> Said:
        """Once this is said, too."""
        if said is None:
            return cls(wait, now, 1, wait.phases)
        return cls(wait, now, said.times + 1, said.phases | wait.phases)


@dataclass(slots=True)
class _Kind:
    number: int = 0
    first: float = math.inf
    last: float = -math.inf
    known: int = 0

    def add(self, expected: float | None) -> None:
        self.number += 1
        if expected is not None:
            self.known += 1
            self.first, self.last = min(self.first, expected), max(self.last, expected)


def wait_of(rows: Iterable[Tracked], jobs: Jobs, backend: str, wall: float) -> Wait | None:
    """Why a cluster's jobs do not run, as far as the batch system says; None when it does not."""
    kinds: dict[tuple[bool, Phase, str], _Kind] = {}
    for tracked in rows:
        row = tracked.row
        if row.backend != backend:
            continue
        for index, job in jobs.get(row.sequence, _NO_JOBS).items():
            told = job.reason or job.expected is not None
            if told and job.phase in _DOES and index in row.wanted:
                key = (row.group != SCHEDULER, job.phase, job.reason)
                kinds.setdefault(key, _Kind()).add(job.expected)
    if not kinds:
        return None
    told_of = sorted(kinds.items())
    text = ". ".join(_sentence(*key, kind, backend, wall) for key, kind in told_of)
    first = min(kind.first for kind in kinds.values())
    last = max(kind.last for kind in kinds.values())
    number = sum(kind.number for kind in kinds.values())
    if math.isinf(first):
        return Wait(text[:_LENGTH], frozenset(kinds), number, None, None)
    return Wait(text[:_LENGTH], frozenset(kinds), number, first, last)


def _sentence(
    workers: bool, phase: Phase, reason: str, kind: _Kind, backend: str, wall: float
) -> str:
    who = "the scheduler" if not workers else "1 worker" if kind.number == 1 else ""
    who = who or f"{kind.number} workers"
    one = kind.number == 1
    does = _DOES[phase][0 if one else 1]
    why = f": {printable(reason).strip()}" if reason.strip() else ""
    return f"{who} {does} in {backend}{why}{_expectation(kind, backend, wall)}"


def _expectation(kind: _Kind, backend: str, wall: float) -> str:
    if not kind.known:
        return ""
    first, last = moment(kind.first, wall), moment(kind.last, wall)
    whom = "it" if kind.number == 1 else "them" if kind.known == kind.number else str(kind.known)
    when = f"at {first}" if first == last else f"from {first} to {last}"
    return f"; {backend} expects {whom} {when}"


def moment(at: float, now: float) -> str:
    """A time of day on this machine's clock, with the date when that is not today's."""
    local = datetime.fromtimestamp(at)
    today = local.date() == datetime.fromtimestamp(now).date()
    return local.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")


def quiet_until(said: Said) -> float:
    """Before this time of the steady clock nothing is news."""
    return said.at + min(LONGEST, SHORTEST * 2.0 ** min(said.times - 1, 10))


def news(said: Said | None, wait: Wait, *, wall: float, now: float) -> bool:
    """Whether there is something to say that was not said, and it is not too soon."""
    if said is None or wait.phases - said.phases:
        return True
    if now < quiet_until(said):
        return False
    if wait.kinds - said.wait.kinds or wait.number >= 2 * said.wait.number:
        return True
    return _moved(said.wait.first, wait.first, wall) or _moved(said.wait.last, wait.last, wall)


def _moved(old: float | None, new: float | None, wall: float) -> bool:
    if old is None or new is None:
        return new is not None  # no word is none that could mislead
    return abs(new - old) > max(MOVED, 0.25 * (old - wall))
