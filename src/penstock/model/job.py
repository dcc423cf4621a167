"""What a batch system is asked for, and what it says that it has."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.model.ids import BatchId


class Role(str, enum.Enum):
    """What the jobs of a batch run."""

    SCHEDULER = "scheduler"
    WORKER = "worker"


class Phase(str, enum.Enum):
    """Where a job is in its life, in every batch system's terms at once."""

    QUEUED = "queued"  # accepted, waiting for a place
    RUNNING = "running"
    HELD = "held"  # will not run until somebody acts
    ENDING = "ending"  # told to end, still there
    EXITED = "exited"
    UNKNOWN = "unknown"  # the batch system has it, but cannot say how it fares (a lost node)


class Exit(str, enum.Enum):
    """Why a job is over."""

    DONE = "done"  # by itself, exit code 0
    FAILED = "failed"  # by itself, any other code or a signal
    CANCELLED = "cancelled"  # by us, the user or an admin
    TIME_LIMIT = "time_limit"
    PREEMPTED = "preempted"
    LOST = "lost"  # the node or its daemon went away


@dataclass(frozen=True, slots=True)
class Resources:
    """What one job may use: cores (may be a fraction), memory in bytes, GPUs."""

    cores: float = 1.0
    memory: int = 2 * 2**30
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """One submission of ``count`` equal jobs, indices 0 to count - 1.

    The backend starts ``command`` in a fresh private directory that holds ``files`` (file name
    without a slash → content, mode 0600), with ``env`` as the *whole* environment, plus
    ``PENSTOCK_TAG`` (the batch's tag) and ``PENSTOCK_INDEX`` (this job's index), which the backend
    sets. No shell sees any of it. ``owner`` is the Unix user that the jobs run as. ``extras`` are
    the profile's settings that only this kind of backend understands.
    """

    id: BatchId
    owner: str
    role: Role
    count: int
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    resources: Resources = Resources()
    extras: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """One job as a batch system reports it.

    ``native`` is the batch system's own id, for people and for ``cancel``. ``exit`` and
    ``exit_code`` are set once the phase is EXITED (a signal n reads as 128 + n). ``reason`` holds
    the batch system's own words.

    Times are seconds since the epoch, None when unknown: ``submitted``; ``expected``, when the batch
    system thinks that a waiting job starts; ``since``, when it entered RUNNING; ``ends``, when the
    batch system ends a running job at the latest (its time limit).
    """

    batch: BatchId
    index: int
    native: str
    owner: str
    phase: Phase
    exit: Exit | None = None
    exit_code: int | None = None
    reason: str = ""
    node: str = ""
    since: float | None = None
    submitted: float | None = None
    expected: float | None = None
    ends: float | None = None

    @property
    def alive(self) -> bool:
        """True until the job is over."""
        return self.phase is not Phase.EXITED


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of our jobs in one backend at one look.

    ``started`` is the moment *before* the look began (seconds since the epoch): a job submitted
    later may be missing. ``complete`` is False when part of the answer is missing; then absence
    proves nothing. ``unsure`` are clusters of which the same is true although the rest is complete.
    Recently exited jobs may be listed (phase EXITED) or be absent.
    """

    started: float
    complete: bool
    jobs: tuple[Job, ...] = ()
    unsure: frozenset[str] = frozenset()
