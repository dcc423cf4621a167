"""The configuration of ``penstock serve`` without a file: this Unix user, on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from penstock.settings.auth import SingleAuth
from penstock.settings.profiles import (
    GIB,
    LimitSettings,
    ProfileSettings,
    SchedulerSettings,
    WorkerSettings,
)
from penstock.settings.root import Settings
from penstock.settings.server import ListenSettings, ServerSettings


def embedded(
    state_dir: Path | None = None,
    *,
    address: str = "127.0.0.1:8000",
    python: str = sys.executable,
) -> Settings:
    """One profile ``default`` on the local backend, for this user only.

    A worker may be as large as the machine, and there may be some for each core: an adaptive
    cluster that wishes for thousands must not bring a laptop down. ``state_dir`` (absolute): None
    means the usual place.
    """
    cores, memory = machine()
    worker = WorkerSettings(
        python=python,
        cores=1.0,
        max_cores=float(cores),
        memory=min(2 * GIB, memory),
        max_memory=memory,
    )
    profile = ProfileSettings(
        description="This machine",
        scheduler=SchedulerSettings(python=python),
        workers={"default": worker},
        limits=LimitSettings(cluster_max_workers=max(16, 4 * cores)),
    )
    server = ServerSettings() if state_dir is None else ServerSettings(state_dir=state_dir)
    return Settings(
        server=server,
        listen=(ListenSettings(address=address),),
        auth=SingleAuth(),
        profiles={"default": profile},
    )


def machine() -> tuple[int, int]:
    """(cores that this process may use, memory in whole GiB as bytes) of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return len(os.sched_getaffinity(0)), max(GIB, memory // GIB * GIB)
