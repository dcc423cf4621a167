"""What the core asks of a batch system: five verbs, and nothing else.

Everything is an array job: a worker batch is one submission of N indices, a scheduler is a batch
of one. The core never learns which backend it drives.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from penstock.model.job import Batch, Job, Snapshot


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do.

    ``max_batch``: the most indices in one submission. ``visibility``: seconds after ``submit``
    returned, or was cut off, by which its jobs show in ``observe`` if they were accepted.
    ``period``: seconds between two looks when nothing happens. ``max_queued``: the most jobs of one
    owner that may wait in the queue at a time, None for no limit; more are submitted as those start.
    """

    max_batch: int = 1000
    visibility: float = 30.0
    period: float = 5.0
    max_queued: int | None = None


class Backend(Protocol):
    """One batch system. Methods may be called concurrently; each bounds its own time."""

    name: str
    capabilities: Capabilities

    async def submit(self, batch: Batch) -> None:
        """Submit all indices of a batch under its tag, once; returns nothing: the tag is the handle.

        Raises Rejected, Unavailable, Full, Absent or Uncertain (``penstock.model.errors``), each with
        the batch system's own words.
        """

    async def observe(self) -> Snapshot:
        """All jobs of this gateway in one look. Raises Unavailable when there is no answer."""

    async def cancel(self, jobs: Collection[Job]) -> None:
        """End exactly these jobs, running or queued. An absent job is a success.

        Returns when the request was taken; the jobs may take a while to go. Raises Unavailable
        when some may not have been told.
        """

    def changes(self) -> AsyncIterator[None]:
        """Yields whenever something may have changed; only a hint to look sooner."""

    async def logs(self, job: Job, *, tail: int) -> str:
        """The last ``tail`` bytes of a job's output as text; empty when there is none (yet)."""

    async def forget(self, cluster: str) -> None:
        """Delete what the backend keeps for a cluster that ended long ago (logs, directories)."""

    async def aclose(self) -> None:
        """Let go of connections and watchers; jobs go on."""


@runtime_checkable
class Timed(Protocol):
    """A backend that may know before a submission how long its jobs will be let run. Optional:
    a limit that is only known once jobs run (a partition's default) shows in ``Job.ends``."""

    def time_limit(self, extras: Mapping[str, object]) -> float | None:
        """Seconds that jobs with these ``Batch.extras`` may run; None when they do not say so.

        Raises Rejected for extras that no job can have.
        """
