"""Several workers in one job, for sites that want whole nodes. Pure.

The core knows nothing of it: it counts indices, and here a *task* of the array hosts ``each``
consecutive ones. All that is needed later stands in the job's comment, behind the tag, so that one
look explains itself; nothing has to be remembered over a restart.

One worker of several is ended by a signal to the task's script: real-time signals are the only
message that Slurm carries to a running job without a step of its own, and each place in a task has
one. A task whose workers are all unwanted is cancelled as a whole, queued or not. A queued one of
which only some are unwanted stays as it is and is seen to once it runs: until then it costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from penstock.model.ids import BatchId
from penstock.model.job import Job, Phase
from penstock.settings.backends import MOST_WORKERS_PER_JOB

FIRST_SIGNAL = 35
"""What ends the first worker of a task; the next ones follow (up to 64, the last that Linux has)."""

_MOST_INDICES = 100_000
_COMMENT = re.compile(r"(\S+) ([1-9][0-9]?)x([1-9][0-9]{0,5})")

Key = tuple[BatchId, int, str]
"""Batch, index and owner of a worker."""


def key(job: Job) -> Key:
    """Which worker a job is."""
    return job.batch, job.index, job.owner


@dataclass(frozen=True, slots=True)
class Sharing:
    """``each`` workers a task, ``count`` altogether; the last task may have fewer."""

    each: int = 1
    count: int = 0

    @property
    def tasks(self) -> int:
        """How many tasks the array has."""
        return -(-self.count // self.each)

    def indices(self, task: int) -> range:
        """The workers of a task."""
        if self.each == 1:
            return range(task, task + 1)
        return range(task * self.each, min(self.count, (task + 1) * self.each))


ALONE = Sharing()


def comment(batch: BatchId, sharing: Sharing) -> str:
    """What the jobs of a batch say about themselves."""
    return batch.tag if sharing.each == 1 else f"{batch.tag} {sharing.each}x{sharing.count}"


def parse_comment(text: str) -> tuple[BatchId, Sharing] | None:
    """The batch and its sharing; None for a comment that is none of ours."""
    match = _COMMENT.fullmatch(text)
    batch = BatchId.parse(match[1] if match else text)
    if batch is None or match is None:
        return None if batch is None else (batch, ALONE)
    sharing = Sharing(int(match[2]), int(match[3]))
    if not 2 <= sharing.each <= MOST_WORKERS_PER_JOB or sharing.count > _MOST_INDICES:
        return None  # anybody may write a comment, and this one would be costly
    return batch, sharing


@dataclass(slots=True)
class Ending:
    """What to tell Slurm, each as array → task numbers: ``tasks`` to cancel, and by signal the
    ``signals`` to send. ``told``: workers that these signals end; ``later``: those of tasks that
    have to run first."""

    tasks: dict[str, list[int]] = field(default_factory=dict)
    signals: dict[int, dict[str, list[int]]] = field(default_factory=dict)
    told: list[Key] = field(default_factory=list)
    later: list[Key] = field(default_factory=list)


def endings(
    jobs: Iterable[Job], unwanted: Collection[Key], *, meant: Collection[Key], done: Collection[Key]
) -> Mapping[str, Ending]:
    """By owner, how to end the workers that are ``meant`` among all ``jobs`` that a look showed.

    ``unwanted``: those and others that nobody wants any more, of which some may share their tasks.
    ``done``: workers that need not be told again.
    """
    tasks: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        if job.alive:
            tasks.setdefault((job.owner, job.native), []).append(job)
    found: dict[str, Ending] = {}
    for (owner, native), workers in tasks.items():
        asked = [job for job in workers if key(job) in meant]
        if not asked:
            continue
        ending = found.setdefault(owner, Ending())
        base, _, task = native.partition("_")
        if all(key(job) in unwanted for job in workers):
            ending.tasks.setdefault(base, []).append(int(task))
            continue
        first = min(job.index for job in workers)
        for job in asked:
            if job.phase is not Phase.RUNNING:
                ending.later.append(key(job))
            elif key(job) not in done:
                number = FIRST_SIGNAL + job.index - first
                ending.signals.setdefault(number, {}).setdefault(base, []).append(int(task))
                ending.told.append(key(job))
    return found
