"""One visit of the doctor: this machine, each backend, and on request a job on each."""

from __future__ import annotations

import contextlib
import datetime
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.auth.identity import lookup
from penstock.backends import probe
from penstock.backends.base import Backend
from penstock.backends.insight import Examined, Finding, Verdict
from penstock.model.demand import Demand
from penstock.model.errors import PenstockError
from penstock.model.ids import new_gateway_id
from penstock.server import doctor
from penstock.server.backends import make_backends
from penstock.server.state import State
from penstock.settings import Settings
from penstock.settings.auth import this_user
from penstock.settings.backends import SlurmBackendSettings
from penstock.settings.demands import demands
from penstock.settings.notebook import NotebookBackendSettings


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of the doctor. ``backend``: only this one. ``user``: as whom to look, None for
    the Unix user who runs the doctor. ``patience``: seconds that a job may take."""

    backend: str | None = None
    user: str | None = None
    probe: bool = False
    patience: float = 120.0


Told = tuple[str, Finding]
"""(chapter, finding)"""


async def visit(settings: Settings, state: State, wish: Wish) -> AsyncIterator[Told]:
    """Everything that is found, as it is found."""
    chapter = "This machine"
    for finding in doctor.state_directory(state):
        yield chapter, finding
    for finding in doctor.certificates(settings, datetime.datetime.now(datetime.timezone.utc)):
        yield chapter, finding
    async for finding in doctor.addresses(settings, state):
        yield chapter, finding
    runs = state.pid_file.exists() and state.running_pid() is not None
    if runs:
        async for finding in doctor.reach(settings):
            yield chapter, finding
    gateway = new_gateway_id()
    async with _made(settings, gateway, state) as backends:
        for name in [wish.backend] if wish.backend else backends:
            async for finding in _backend(settings, backends[name], gateway, wish, runs=runs):
                yield f"Backend {name}", finding


@contextlib.asynccontextmanager
async def _made(
    settings: Settings, gateway: str, state: State
) -> AsyncIterator[Mapping[str, Backend]]:
    """All backends under an id that is no gateway's: its server would end our jobs as strangers."""
    backends = make_backends(settings, gateway, state)
    try:
        yield backends
    finally:
        for backend in backends.values():
            await backend.aclose()


async def _backend(
    settings: Settings, backend: Backend, gateway: str, wish: Wish, *, runs: bool
) -> AsyncIterator[Finding]:
    unreadable = _configuration(settings, backend.name)
    if unreadable is not None:
        yield unreadable
        return
    if isinstance(settings.backends[backend.name], NotebookBackendSettings):
        yield Finding(Verdict.GOOD, "jobs", "are submitted by users' own notebooks")
        return
    for finding in doctor.loopback(settings, backend.name):
        yield finding
    owner = wish.user and settings.unix_user(wish.user)
    answers = True
    if isinstance(backend, Examined):
        answers = False
        try:
            async for finding in backend.examine(owner):
                answers = answers or finding.verdict is Verdict.GOOD
                yield finding
        except PenstockError as error:  # it went away while it was looked at
            yield Finding(Verdict.BAD, "examination", str(error))
    else:
        yield Finding(Verdict.GOOD, "examination", "this kind of backend has none yet")
    if not wish.probe:
        return
    if not answers:
        advice = "put right what is above first"
        yield Finding(Verdict.WARNING, "job on a node", "not tried", advice)
        return
    async for finding in _probe(settings, backend, gateway, wish, owner or this_user(), runs=runs):
        yield finding


def _configuration(settings: Settings, name: str) -> Finding | None:
    """Without its slurm.conf each of Slurm's commands takes a minute to say so."""
    section = settings.backends[name]
    if not isinstance(section, SlurmBackendSettings) or section.config is None:
        return None
    if os.access(section.config, os.R_OK):
        return None
    advice = f"correct backends.{name}.config"
    return Finding(Verdict.BAD, "slurm.conf", f"{section.config} cannot be read", advice)


async def _probe(
    settings: Settings, backend: Backend, gateway: str, wish: Wish, owner: str, *, runs: bool
) -> AsyncIterator[Finding]:
    try:
        home = lookup(owner).home
        wanted: tuple[Demand, ...] = demands(settings, backend.name, account=owner, home=home)
        ca_file = settings.server.ca_file
        told = probe.Probe(owner, settings.agent_urls, ca_file.read_text() if ca_file else None)
        async with contextlib.AsyncExitStack() as stack:
            if not runs:
                await stack.enter_async_context(doctor.standing_in(settings))
            # Notes and directories of these jobs go where no server looks.
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-doctor-"))
            made = await stack.enter_async_context(_made(settings, gateway, State(Path(place))))
            again = made[backend.name]
            async for finding in probe.run(again, gateway, wanted, told, wish.patience):
                yield finding
    except (PenstockError, OSError) as error:
        yield Finding(Verdict.BAD, "job on a node", str(error))
