"""Examines this machine as a batch system: room for jobs, rights, and the profiles' Pythons."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from penstock.backends.insight import Finding, Verdict
from penstock.backends.owner import identify
from penstock.model.errors import Rejected
from penstock.settings.demands import Demand

LEAST_ROOM = 2**30
"""Bytes; workers spill to the jobs' directory."""


async def examine(
    directory: Path, demands: Sequence[Demand], owner: str | None, *, allow_root: bool
) -> AsyncIterator[Finding]:
    """See ``penstock.backends.insight.Examined``. ``directory``: of the jobs."""
    yield _room(directory, shared=not allow_root and os.geteuid() == 0)
    if owner is not None:
        yield _rights(owner, allow_root=allow_root)
    for finding in _pythons(demands):
        yield finding


def _room(directory: Path, *, shared: bool) -> Finding:
    what = "jobs' directory"
    place = next(p for p in (directory, *directory.parents) if p.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        found = f"{place} cannot be written by this account"
        return Finding(Verdict.BAD, what, found, "set `directory` of the backend")
    if shared:
        closed = [p for p in (place, *place.parents) if not p.stat().st_mode & 0o001]
        if closed:
            found = f"users cannot pass through {closed[-1]}"
            return Finding(Verdict.BAD, what, found, f"chmod o+x {closed[-1]}")
    free = shutil.disk_usage(place).free
    if free < LEAST_ROOM:
        return Finding(Verdict.WARNING, what, f"{directory} has {free // 2**20} MiB left")
    return Finding(Verdict.GOOD, what, f"{directory}, {free / 2**30:.0f} GiB free")


def _rights(owner: str, *, allow_root: bool) -> Finding:
    try:
        identify(owner, allow_root=allow_root)
    except Rejected as error:
        return Finding(Verdict.BAD, f"acting for {owner}", str(error))
    return Finding(Verdict.GOOD, f"acting for {owner}", "jobs can be started as this user")


def _pythons(demands: Sequence[Demand]) -> Iterator[Finding]:
    for python in dict.fromkeys(demand.python for demand in demands):
        path = shutil.which(python)
        if path is None:
            advice = "correct python or venv of the profile"
            yield Finding(Verdict.BAD, f"Python {python}", "is no program here", advice)
        else:
            found = "is here; `--probe` tries whether it has distributed"
            yield Finding(Verdict.GOOD, f"Python {python}", found)
