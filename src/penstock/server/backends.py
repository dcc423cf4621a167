"""The configured backends, each from its section."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from penstock.backends.base import Backend
from penstock.backends.local import LocalBackend
from penstock.backends.slurm import SlurmBackend, slurm_commands
from penstock.server.state import State
from penstock.settings import Settings
from penstock.settings.backends import BackendSettings, SlurmBackendSettings
from penstock.settings.demands import Demand, demands

SHARED_JOBS = Path("/var/lib/penstock-jobs")
"""Directory of local jobs when they run as many users."""


def make_backends(settings: Settings, gateway: str, state: State) -> Mapping[str, Backend]:
    """All configured backends by name."""
    single_user = settings.auth.type == "single"
    return {
        name: _make_backend(
            name, section, gateway, state, demands(settings, name), single_user=single_user
        )
        for name, section in settings.backends.items()
    }


def _make_backend(
    name: str,
    section: BackendSettings,
    gateway: str,
    state: State,
    wanted: Sequence[Demand],
    *,
    single_user: bool,
) -> Backend:
    if isinstance(section, SlurmBackendSettings):
        return SlurmBackend(
            name,
            gateway,
            state.directory / f"slurm-{name}",
            slurm_commands(section.bin, section.config, section.timeout),
            jobs=section.jobs,
            scratch=section.scratch,
            allow_root=single_user,
            visibility=section.visibility,
            period=section.period,
            figures=section.figures,
            demands=wanted,
        )
    return LocalBackend(
        name,
        gateway,
        section.directory or _job_directory(state, single_user),
        allow_root=single_user,
        period=section.period,
    )


def _job_directory(state: State, single_user: bool) -> Path:
    """Where local jobs live: users must be able to pass through it, which ``state`` forbids."""
    return state.directory / "jobs" if single_user or os.geteuid() != 0 else SHARED_JOBS
