"""The configured backends, each from its section."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from penstock.backends.base import Backend
from penstock.backends.htcondor import make_htcondor
from penstock.backends.local import LocalBackend
from penstock.backends.relay.backend import RelayBackend
from penstock.backends.slurm import SlurmBackend, slurm_commands
from penstock.backends.slurm.acting import Acting
from penstock.backends.slurm.rest import Rest
from penstock.backends.slurm.sudo import Sudo
from penstock.backends.slurm.tokens import TokenCommand, TokenFile, Tokens
from penstock.model.demand import Demand
from penstock.server.state import State
from penstock.settings import Settings
from penstock.settings.backends import BackendSettings, SlurmBackendSettings
from penstock.settings.demands import demands
from penstock.settings.htcondor import HTCondorBackendSettings
from penstock.settings.notebook import NotebookBackendSettings

SHARED_JOBS = Path("/var/lib/penstock-jobs")
"""Directory of local jobs when they run as many users."""

SHARED_HTCONDOR = Path("/var/lib/penstock-htcondor")
"""Scripts and output of HTCondor's jobs when they are many users'."""


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
        return _slurm(name, section, gateway, state, wanted, single_user=single_user)
    if isinstance(section, HTCondorBackendSettings):
        directory = state.directory / f"htcondor-{name}"
        many = os.geteuid() == 0 and not single_user
        files = SHARED_HTCONDOR if many else directory / "files"
        made = make_htcondor(name, gateway, section, directory, files, own=single_user)
        made.watch(section.figures, wanted)
        return made
    if isinstance(section, NotebookBackendSettings):
        return RelayBackend(
            name,
            gateway,
            state.directory / f"notebook-{name}.json",
            period=section.period,
            timeout=section.timeout,
            visibility=section.visibility,
            grace=section.grace,
            max_batch=section.max_batch,
        )
    return LocalBackend(
        name,
        gateway,
        section.directory or _job_directory(state, single_user),
        allow_root=single_user,
        period=section.period,
        demands=wanted,
    )


def _slurm(
    name: str,
    section: SlurmBackendSettings,
    gateway: str,
    state: State,
    wanted: Sequence[Demand],
    *,
    single_user: bool,
) -> SlurmBackend:
    return SlurmBackend(
        name,
        gateway,
        state.directory / f"slurm-{name}",
        slurm_commands(section.bin, section.config, section.timeout),
        jobs=section.jobs,
        scratch=section.scratch,
        acting=_slurm_acting(section),
        allow_root=single_user,
        visibility=section.visibility,
        period=section.period,
        max_queued=section.max_queued_jobs,
        figures=section.figures,
        demands=wanted,
    )


def _slurm_acting(section: SlurmBackendSettings) -> Acting | None:
    """The way to users that is not the backend's own."""
    if section.act_by == "sudo":
        return Sudo(section.helper, timeout=section.timeout)
    if section.act_by == "slurmrestd" and section.rest is not None:
        rest = section.rest
        tokens: Tokens = TokenCommand(rest.token_command, timeout=section.timeout)
        if rest.token_file is not None:
            tokens = TokenFile(rest.token_file)
        return Rest(rest.url, tokens, timeout=section.timeout)
    return None


def _job_directory(state: State, single_user: bool) -> Path:
    """Where local jobs live: users must be able to pass through it, which ``state`` forbids."""
    return state.directory / "jobs" if single_user or os.geteuid() != 0 else SHARED_JOBS
