"""Slurm behind the five verbs of ``penstock.backends.base``.

One array a batch and one question a period whatever there is to watch, because a command a worker
is what makes gateways slow. Job ids are used again after slurmctld lost its last seconds, so every
cancellation looks first which id a tag has now, and is carried out as the jobs' owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from penstock.backends import payload
from penstock.backends.base import Capabilities
from penstock.backends.command import Commands
from penstock.backends.extras import with_extras
from penstock.backends.hints import Hints
from penstock.backends.insight import Figure, Finding
from penstock.backends.records import Record, Records
from penstock.backends.slurm import doctor, look, parse, script, sharing
from penstock.backends.slurm.acting import Acting, Itself, Output
from penstock.backends.slurm.leaving import Leaving
from penstock.backends.slurm.measure import Measure
from penstock.model.demand import Demand
from penstock.model.errors import Absent, Full, Rejected, Unavailable
from penstock.model.job import Batch, Job, Snapshot
from penstock.settings.backends import SlurmJobSettings
from penstock.settings.figures import SlurmFigureSettings

MOST = 10_000
"""Indices of one submission whatever Slurm allows."""

SOON = 1.0
"""Seconds after which Slurm has acted on what it was told (it starts jobs about once a second)."""

_FORGOTTEN = 10_000


class SlurmBackend:
    """The backend ``slurm``; see ``penstock.backends.base.Backend`` for the verbs.

    ``gateway``: whose jobs these are. ``directory``: for the server's own notes. ``jobs``: settings
    of jobs whose profile says nothing else. ``scratch``: where jobs make their private directories,
    None for the node's ``$TMPDIR`` or /tmp. ``acting``: how users are acted for; not given: by this
    process itself, whose jobs may run as root if ``allow_root``.
    """

    def __init__(
        self,
        name: str,
        gateway: str,
        directory: Path,
        commands: Commands,
        *,
        jobs: SlurmJobSettings | None = None,
        scratch: Path | None = None,
        acting: Acting | None = None,
        allow_root: bool = False,
        visibility: float = 60.0,
        period: float = 5.0,
        max_queued: int | None = None,
        figures: SlurmFigureSettings | None = None,
        demands: Sequence[Demand] = (),
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(
            visibility=visibility, period=period, max_queued=max_queued
        )
        self._gateway = gateway
        self._commands = commands
        self.acting = acting or Itself(commands, allow_root=allow_root)
        self._jobs = jobs or SlurmJobSettings()
        self._scratch = None if scratch is None else str(scratch)
        self._records = Records(directory)
        figures = figures or SlurmFigureSettings()
        self.figures_period = figures.period
        self._demands = demands
        self._ask_as = figures.predict_user
        self._measure = Measure(commands, self.acting, figures, demands, self._jobs)
        self._hints = Hints(SOON)
        self._forgotten: dict[str, None] = {}
        self._leaving = Leaving(self._end, time.monotonic)
        self._reader = look.Reader(gateway)
        self._limits_known = False
        self._sound = True
        self._owners: frozenset[str] = frozenset()
        """Who had living jobs at the last look."""

    async def submit(self, batch: Batch) -> None:
        """One ``sbatch`` as the batch's owner."""
        await self._learn_limits()
        payload.check(batch, self._commands.system, most=self.capabilities.max_batch)
        jobs = with_extras(self._jobs, batch.extras)
        logs = (jobs.log_directory or "").replace("{user}", batch.owner)
        text = script.job_script(batch, logs, self._scratch, jobs)
        self._records.reserve(batch.id, Record(batch.owner, logs))
        try:
            await self.acting.submit(batch.owner, script.arguments(batch, jobs), text)
        except (Rejected, Unavailable, Full, Absent) as error:
            self._records.drop(batch.id)
            several = batch.count > 1 or batch.owner in self._owners
            if several and isinstance(error, parse.OverLimit):
                # Else it is what the only job of somebody asks for that is too much.
                raise Full(
                    f"Slurm takes no more jobs now, or none so large: {error.words}"
                ) from None
            raise
        self._hints.give()

    def time_limit(self, extras: Mapping[str, object]) -> float | None:
        """As ``Timed.time_limit``: what ``--time`` will say."""
        time = with_extras(self._jobs, extras).time
        return None if time is None else 60.0 * script.minutes(time)

    async def observe(self) -> Snapshot:
        """One ``squeue`` for all users.

        The first answer after a failure proves no absence: a submission that a hanging controller
        has yet to read may be behind the question.
        """
        started = time.time()
        sound, self._sound = self._sound, False
        await self._learn_limits()
        jobs = await self._leaving.apply(await self._look())
        self._sound = True
        self._owners = frozenset(job.owner for job in jobs if job.alive)
        shown = tuple(job for job in jobs if job.alive or job.batch.cluster not in self._forgotten)
        return Snapshot(started, complete=sound, jobs=shown)

    async def cancel(self, jobs: Collection[Job]) -> None:
        """One look, then one ``scancel`` an owner of the tasks that bear these tags now.

        See ``sharing`` for workers of a job that others share.
        """
        if not jobs:
            return
        try:
            await self._leaving.carry_out(await self._look(), {sharing.key(job) for job in jobs})
        finally:
            self._hints.give()

    async def _end(self, owner: str, ending: sharing.Ending) -> None:
        try:
            if ending.tasks:
                await self.acting.cancel(owner, ending.tasks)
            for number, tasks in sorted(ending.signals.items()):
                await self.acting.cancel(owner, tasks, number)
        except Rejected as error:
            raise Unavailable(f"jobs of {owner} cannot be cancelled: {error}") from None

    def changes(self) -> AsyncIterator[None]:
        """Yields soon after a submission or cancellation of ours; Slurm itself tells nobody."""
        return self._hints.changes()

    async def logs(self, job: Job, *, tail: int) -> str:
        """The end of a job's output where this machine can see it, read with the owner's rights."""
        record = self._records.find(job.batch)
        if record is None or not record.logs:
            return ""
        output = Output(record.logs, job.batch)
        return await self.acting.tail(record.owner, output, job.index, tail)

    async def forget(self, cluster: str) -> None:
        """Delete a cluster's output where this machine can see it, and our notes."""
        for batch in self._records.of_cluster(self._gateway, cluster):
            record = self._records.find(batch)
            if record is not None and record.logs:
                # The account may be gone, and its files are the site's to keep or not.
                with contextlib.suppress(Rejected):
                    await self.acting.remove(record.owner, Output(record.logs, batch))
            self._records.drop(batch)
        self._forgotten[cluster] = None
        while len(self._forgotten) > _FORGOTTEN:
            del self._forgotten[next(iter(self._forgotten))]

    async def figures(self) -> Sequence[Figure]:
        """Everybody's jobs, and expected waits; see ``penstock.backends.insight.Measured``."""
        return await self._measure.figures()

    def examine(self, owner: str | None = None) -> AsyncIterator[Finding]:
        """See ``penstock.backends.insight.Examined``."""
        period = self.capabilities.period
        patient = doctor.Patient(
            self._commands, self.acting, self._jobs, self._demands, period, self._ask_as
        )
        return doctor.examine(patient, owner)

    async def aclose(self) -> None:
        """Jobs go on."""
        await self.acting.aclose()
        await self._commands.aclose()

    # --- helpers -----------------------------------------------------------------------------

    async def _look(self) -> list[Job]:
        separator = f"|{secrets.token_hex(8)}|"
        done = await self._commands.run("squeue", *look.arguments(separator))
        failure = parse.ask_error("squeue", done.code, done.errors)
        if failure is not None:
            raise failure
        text = done.output.decode(errors="replace")
        return await asyncio.to_thread(self._reader.read, text, separator)

    async def _learn_limits(self) -> None:
        """How large an array may be here; asked once."""
        if self._limits_known:
            return
        done = await self._commands.run("scontrol", "show", "config")
        failure = parse.ask_error("scontrol show config", done.code, done.errors)
        if failure is not None:
            raise failure
        size = parse.max_array_size(done.output.decode(errors="replace"))
        self._limits_known = True
        if size is not None:
            self.capabilities = replace(self.capabilities, max_batch=min(size, MOST))
