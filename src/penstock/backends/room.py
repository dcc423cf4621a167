"""Is there room for jobs' files, and may their users get to it? For the doctor."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from penstock.backends.insight import Finding, Verdict

LEAST_ROOM = 2**30
"""Bytes."""


def judge_room(directory: Path, *, shared: bool) -> Finding:
    """``directory``: of jobs' files, which may not be there yet. ``shared``: users must be able to pass."""
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
