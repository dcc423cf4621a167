"""The fates of jobs in the batch system of tests: what may go wrong, and how each fares when.

A job's life is computed when somebody looks: a hundred thousand of them cost no timers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from penstock.model.job import Exit, Job, Phase

NEVER = math.inf


@dataclass(slots=True)
class Faults:
    """How likely each misfortune is (0 to 1), and how slow things are (seconds). May be changed.

    ``lost_reply``: accepted, but the caller only learns that something went wrong. ``late``: the
    same, and accepted some time within the visibility delay. ``hidden``: accepted, and not shown
    before some of the visibility delay has passed. ``lost_request``: never arrived, and
    the caller cannot know. ``unavailable``: certainly not taken. ``partial``: a look misses some
    jobs and says so. ``blind``: a look gets no answer. ``deaf``: a cancel gets no answer, and
    part of it happened. ``dies``: a job dies within ``dies_within`` seconds of running.
    ``refuse``: the words of a refusal of every submission, empty for none. ``places``: the most
    jobs that may wait; a batch that does not fit is not taken.
    """

    lost_reply: float = 0.0
    late: float = 0.0
    hidden: float = 0.0
    lost_request: float = 0.0
    unavailable: float = 0.0
    partial: float = 0.0
    blind: float = 0.0
    deaf: float = 0.0
    dies: float = 0.0
    dies_within: float = 30.0
    refuse: str = ""
    places: float = math.inf
    latency: float = 0.0
    queue_wait: float = 0.0
    cancel_time: float = 0.0


@dataclass(slots=True)
class Life:
    """One job's fate, in seconds since the epoch, and how it was last shown."""

    job: Job
    visible: float
    starts: float
    ends: float = NEVER
    gone: float = NEVER
    limit: float | None = None
    exit: Exit = Exit.DONE
    code: int = 0
    reason: str = ""
    held: str = ""
    output: str = ""


def bound(life: Life, limit: float | None) -> None:
    """Let a job that has yet to start end at its time limit."""
    life.limit = limit
    if limit is not None:
        life.ends = life.gone = life.starts + limit
        life.exit, life.code = Exit.TIME_LIMIT, 143


def as_it_is(life: Life, now: float) -> Job:
    """The job at this moment; the same object as long as nothing about it changes."""
    job = life.job
    phase = _phase(life, now)
    if phase is job.phase and (phase is not Phase.HELD or job.reason == life.held):
        return job
    if phase is Phase.EXITED:
        job = replace(job, phase=phase, exit=life.exit, exit_code=life.code, reason=life.reason)
    elif phase is Phase.RUNNING:
        ends = None if life.limit is None else life.starts + life.limit
        job = replace(job, phase=phase, since=life.starts, node="node", reason="", ends=ends)
    else:
        job = replace(job, phase=phase, reason=life.held)
    life.job = job
    return job


def _phase(life: Life, now: float) -> Phase:
    if now >= life.gone:
        return Phase.EXITED
    if now >= life.ends:
        return Phase.ENDING
    if now >= life.starts:
        return Phase.RUNNING
    return Phase.HELD if life.held else Phase.QUEUED
