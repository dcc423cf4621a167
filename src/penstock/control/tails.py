"""The last output of jobs that died where nobody else can read it: on a node, beside the job.

What an agent sends at the end of its process is kept in small files, so that ``penstock logs`` shows
why a worker is gone also where gateway and nodes share no file system. Bounded in all directions,
because whoever owns a cluster decides how much its jobs say.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import structlog

MOST_JOBS, MOST_CLUSTERS = 50, 500
"""Of one cluster the last jobs, and the last clusters, are kept: 400 MB at the very most."""

log = structlog.get_logger()


class Tails:
    """Files below ``directory``, which is made when it is missing; None keeps nothing.

    Names of clusters and jobs must have been checked. Nothing here raises: output is a comfort.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def keep(self, cluster: str, job: str, text: str) -> None:
        """Keep the last output of a job, instead of the oldest of others."""
        if self._directory is None or not text.strip():
            return
        place = self._directory / cluster
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.joinpath(job).write_text(text)
            for old in _oldest(place, MOST_JOBS):
                old.unlink(missing_ok=True)
            for old in _oldest(self._directory, MOST_CLUSTERS):
                shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            log.warning("last output not kept", cluster=cluster, job=job, error=str(error))

    def find(self, cluster: str, job: str) -> str:
        """The last output of a job; empty when there is none."""
        if self._directory is None:
            return ""
        try:
            return self._directory.joinpath(cluster, job).read_text(errors="replace")
        except OSError:
            return ""

    def forget(self, cluster: str) -> None:
        """Drop all of a cluster."""
        if self._directory is not None:
            shutil.rmtree(self._directory / cluster, ignore_errors=True)


def _oldest(directory: Path, most: int) -> list[Path]:
    """All but the newest so many."""
    found: list[tuple[float, Path]] = []
    for path in directory.iterdir():
        with contextlib.suppress(OSError):
            found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found)[: max(0, len(found) - most)]]
