"""Examines this machine as a batch system: room for jobs, rights, and the profiles' Pythons."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from penstock.backends.insight import Finding, Verdict
from penstock.backends.owner import identify
from penstock.backends.room import judge_room
from penstock.model.demand import Demand
from penstock.model.errors import Rejected


async def examine(
    directory: Path, demands: Sequence[Demand], owner: str | None, *, allow_root: bool
) -> AsyncIterator[Finding]:
    """See ``penstock.backends.insight.Examined``. ``directory``: of the jobs."""
    yield judge_room(directory, shared=not allow_root and os.geteuid() == 0)
    if owner is not None:
        yield _rights(owner, allow_root=allow_root)
    for finding in _pythons(demands):
        yield finding


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
