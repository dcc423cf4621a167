"""What the backend ``htcondor`` offers besides the five verbs (``penstock.backends.insight``)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence

from penstock.backends.base import Capabilities
from penstock.backends.command import Commands
from penstock.backends.htcondor import doctor, figures
from penstock.backends.htcondor.acting import Actors
from penstock.backends.htcondor.files import Files
from penstock.backends.insight import Figure, Finding
from penstock.model.demand import Demand
from penstock.settings.figures import FigureSettings
from penstock.settings.htcondor import HTCondorJobSettings


class Watched:
    """Numbers of everybody's jobs, and an examination of the pool."""

    figures_period = 60.0
    _users = 50
    _demands: Sequence[Demand] = ()
    _commands: Commands
    _actors: Actors
    _jobs: HTCondorJobSettings
    _where: list[str]
    _spool: bool
    _files: Files
    _own_files: bool
    _times: dict[str, float]
    capabilities: Capabilities

    def watch(self, settings: FigureSettings, demands: Sequence[Demand]) -> None:
        """How often to measure and how many users to name; what profiles ask for."""
        self.figures_period, self._users = settings.period, settings.users
        self._demands = demands

    @property
    def _pool(self) -> list[str]:
        """The arguments that name the pool alone."""
        return self._where[:2] if self._where[:1] == ["-pool"] else []

    async def figures(self) -> Sequence[Figure]:
        """See ``penstock.backends.insight.Measured``."""
        return await figures.measure(self._commands, self._where, self._pool, self._users)

    def examine(self, owner: str | None = None) -> AsyncIterator[Finding]:
        """See ``penstock.backends.insight.Examined``."""
        patient = doctor.Patient(
            commands=self._commands,
            actors=self._actors,
            jobs=self._jobs,
            demands=self._demands,
            schedd=self._where,
            pool=self._pool,
            name=self._where[-1] if "-name" in self._where else "",
            spool=self._spool,
            files=self._files.directory,
            shared=not self._own_files and os.geteuid() == 0,
            remember=self._times["remember"],
            capabilities=self.capabilities,
        )
        return doctor.examine(patient, owner)
