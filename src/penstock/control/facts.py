"""What the pure rules look at, and what they answer: values, no behaviour.

The rules of :mod:`penstock.control.plan` shall be testable line by line, so everything that they
may consider stands here as a plain value: no clock (``now`` is handed in), no backend, no store.

Times are seconds of the process's steady clock, not of the wall: a stepped wall clock must not
turn "not visible yet" into "never accepted".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from penstock.backends.base import Capabilities
from penstock.model.cluster import BatchRow
from penstock.model.errors import Absent, BackendError, Full, Rejected, Unavailable
from penstock.model.job import Job

Jobs = Mapping[int, Mapping[int, Job]]
"""The jobs of one cluster in one backend: sequence → index → job."""

NEVER = -math.inf

SCHEDULER = ""
"""The group of a cluster's scheduler."""

NOT_TAKEN = (Rejected, Unavailable, Full, Absent)
"""Outcomes of a submission after which there certainly is no job of it."""


@dataclass(frozen=True, slots=True)
class Look:
    """When the last look at a backend began, and whether absence from it proves anything.

    ``unsure``: clusters about which it does not, although it is complete for the others.
    """

    started: float = NEVER
    complete: bool = False
    unsure: frozenset[str] = frozenset()

    def of(self, cluster: str) -> Look:
        """The look as it is for one cluster."""
        return Look(self.started) if cluster in self.unsure else self


@dataclass(slots=True)
class Tracked:
    """A journal row, and what this process alone knows of it.

    ``settled_at`` is when the submit returned or was cut off, None while it is under way. A row
    that was loaded at a start was cut off by the start at the latest. ``outcome`` is the error of
    the submit; ``accepted`` says that it returned, or that the job has spoken to us.
    ``seen`` are the indices that a look has shown, ``registered`` those that the scheduler has as
    workers now, ``served`` those that it ever had. ``ran`` maps a running index to when we first
    saw it run; ``watched``: by the process that submitted it, so from the start. ``ending`` maps an
    index that was told to end to when we first saw it so. ``leaving`` maps a worker whose time is
    nearly over to its last moment, see ``walltime``. For accounting:
    ``first_ran`` is when the first of them began, and ``job_seconds`` the sum of run times that
    ``ran`` does not hold.
    """

    row: BatchRow
    settled_at: float | None = None
    outcome: BackendError | None = None
    accepted: bool = False
    seen: set[int] = field(default_factory=set)
    registered: set[int] = field(default_factory=set)
    served: set[int] = field(default_factory=set)
    ran: dict[int, float] = field(default_factory=dict)
    watched: bool = False
    ending: dict[int, float] = field(default_factory=dict)
    leaving: dict[int, float] = field(default_factory=dict)
    first_ran: float | None = None
    job_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Situation:
    """One cluster at one moment, with all that the planner may consider.

    ``rows``: open rows by sequence. ``jobs`` and ``looks``: by backend. ``desired``: how many jobs
    each group shall have, the scheduler's group included. ``places``: group → backend.
    ``holds``: group → no submit before. ``reported``: indices whose own agents said that they are
    over. ``retired``: indices that the scheduler has let go. ``retiring``: groups with an
    unanswered retire request. ``linked``: the scheduler's agent can be asked. ``heard_at``: when
    it last spoke. ``stopping``: all shall end; ``forced``: and not only what waits in a queue.
    ``keep``: how many jobs a group may have that work, those that are leaving too; absent: as
    desired. ``room``: how many jobs a group may submit now; absent: any number. ``patience``: as
    many waiting jobs as a group may have beyond what is desired, and until when.
    """

    rows: Mapping[int, Tracked]
    jobs: Mapping[str, Jobs]
    looks: Mapping[str, Look]
    desired: Mapping[str, int]
    places: Mapping[str, str]
    capabilities: Mapping[str, Capabilities]
    now: float
    holds: Mapping[str, float] = field(default_factory=dict)
    reported: Mapping[int, Set[int]] = field(default_factory=dict)
    retired: Mapping[int, Set[int]] = field(default_factory=dict)
    retiring: Set[str] = frozenset()
    linked: bool = False
    heard_at: float = NEVER
    stopping: bool = False
    forced: bool = False
    keep: Mapping[str, int] = field(default_factory=dict)
    room: Mapping[str, int] = field(default_factory=dict)
    patience: Mapping[str, tuple[int, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Adopt:
    """The batch system has this row's jobs: INTENDED becomes SUBMITTED."""

    sequence: int


@dataclass(frozen=True, slots=True)
class MarkExited:
    """These indices are over; None where nothing but the absence says so."""

    sequence: int
    exits: Mapping[int, Job | None]


@dataclass(frozen=True, slots=True)
class Release:
    """These indices are not wanted any more."""

    sequence: int
    indices: frozenset[int]


@dataclass(frozen=True, slots=True)
class Close:
    """Nothing of this row is wanted, and nothing of it runs. ``lost``: it never came to be."""

    sequence: int
    reason: str = ""
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Submit:
    """Write an intent for this many jobs, then submit them as one batch."""

    group: str
    count: int


@dataclass(frozen=True, slots=True)
class Retire:
    """Ask the scheduler to let this many of these workers go, and to move their data away."""

    group: str
    count: int
    candidates: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """End these jobs in the batch system."""

    backend: str
    jobs: tuple[Job, ...]


Action = Adopt | MarkExited | Release | Close | Submit | Retire | Cancel


@dataclass(slots=True)
class Plan:
    """What to do, in this order; journal writes come before everything that acts on them.

    ``wake_at`` is when time alone may change the plan; ``awaited`` are the backends of which the
    next look may, even if it shows the same jobs; ``held`` are groups that may not submit yet;
    ``crowded`` are how many jobs a group lacks for which there is no room in the queue.
    """

    actions: list[Action] = field(default_factory=list)
    wake_at: float = math.inf
    awaited: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    crowded: dict[str, int] = field(default_factory=dict)
