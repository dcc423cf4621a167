"""What a batch has used, kept for accounting after the cluster itself is forgotten."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """One line of accounting: a batch that is closed.

    ``workers`` is the number of jobs (a scheduler counts as one); ``cores`` and ``memory`` (bytes)
    are what *each* of them was given; ``started_at`` and ``ended_at`` (seconds since the epoch)
    span the first start and the last end; ``job_seconds`` is the sum of the jobs' own run times.
    """

    cluster: str
    user: str
    group: str
    backend: str
    workers: int
    cores: float
    memory: int
    started_at: float
    ended_at: float
    job_seconds: float

    @property
    def core_seconds(self) -> float:
        """Cores times seconds, over all jobs."""
        return self.cores * self.job_seconds
