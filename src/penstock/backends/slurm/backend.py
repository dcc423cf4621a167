"""Slurm behind the five verbs of ``penstock.backends.base``.

One array a batch and one question a period whatever there is to watch, because a command a worker
is what makes gateways slow. Job ids are used again after slurmctld lost its last seconds, so every
cancellation looks first which id a tag has now, and is carried out as the jobs' owner.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path

from pydantic import ValidationError

from penstock.backends import payload
from penstock.backends.base import Capabilities
from penstock.backends.command import Commands
from penstock.backends.insight import Figure
from penstock.backends.slurm import parse, script
from penstock.backends.slurm.records import Record, Records
from penstock.backends.slurm.acting import Acting, Itself, Output
from penstock.backends.slurm.measure import Measure
from penstock.model.errors import Rejected, Unavailable, Uncertain
from penstock.model.job import Batch, Job, Snapshot
from penstock.settings.backends import SlurmJobSettings

from penstock.settings.demands import Demand
from penstock.settings.figures import SlurmFigureSettings
MOST = 10_000
"""Indices of one submission whatever Slurm allows."""

SOON = 1.0
"""Seconds after which Slurm has acted on what it was told (it starts jobs about once a second)."""

FILE_LIMIT = 10.0
"""Seconds for reading or deleting output, which may lie on a file server."""

_FORGOTTEN = 10_000
_ARRAYS = 200
"""Arrays in one ``scancel``."""


class SlurmBackend:
    """The backend ``slurm``; see ``penstock.backends.base.Backend`` for the verbs.

    ``gateway``: whose jobs these are. ``directory``: for the server's own notes. ``jobs``: settings
    of jobs whose profile says nothing else. ``scratch``: where jobs make their private directories,
    None for the node's ``$TMPDIR`` or /tmp. ``allow_root``: jobs may run as root.
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
        allow_root: bool = False,
        figures: SlurmFigureSettings | None = None,
        demands: Sequence[Demand] = (),
        visibility: float = 60.0,
        period: float = 5.0,
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(visibility=visibility, period=period)
        self._gateway = gateway
        self._commands = commands
        # Users' file systems may hang, which must not keep anybody from Slurm.
        self._files = Commands("the system", timeout=min(commands.timeout, FILE_LIMIT))
        figures = figures or SlurmFigureSettings()
        self.figures_period = figures.period
        self._demands = demands
        self._measure = Measure(commands, figures, demands, self._jobs)
        self._jobs = jobs or SlurmJobSettings()
        self._scratch = None if scratch is None else str(scratch)
        self._allow_root = allow_root
        self._records = Records(directory)
        self._hints: set[asyncio.Event] = set()
        self._forgotten: dict[str, None] = {}
        self._limits_known = False
        self._sound = True

    async def submit(self, batch: Batch) -> None:
        """One ``sbatch`` as the batch's owner."""
        await self._learn_limits()
        payload.check(batch, self._commands.system, most=self.capabilities.max_batch)
        jobs = self._settings_of(batch)
        identity = await self._identity(batch.owner)
        logs = (jobs.log_directory or "").replace("{user}", batch.owner)
        text = script.job_script(batch, logs, self._scratch)
        try:
            self._records.reserve(batch.id, Record(batch.owner, logs))
        except FileExistsError:
            raise Uncertain(f"{batch.id.tag} was submitted before; it is not again") from None
        except OSError as error:
            raise Unavailable(f"the gateway cannot note a submission: {error.strerror}") from error
        try:
            words = script.arguments(batch, jobs)
            done = await self._commands.run("sbatch", *words, identity=identity, data=text)
            failure = parse.submit_error(done.code, done.errors)
            if failure is not None:
                raise failure
        except (Rejected, Unavailable):
            self._records.drop(batch.id)
            raise
        self._hint()

    async def observe(self) -> Snapshot:
        """One ``squeue`` for all users.

        The first answer after a failure proves no absence: a submission that a hanging controller
        has yet to read may be behind the question.
        """
        started = time.time()
        sound, self._sound = self._sound, False
        await self._learn_limits()
        jobs = await self._look()
        self._sound = True
        shown = tuple(job for job in jobs if job.alive or job.batch.cluster not in self._forgotten)
        return Snapshot(started, complete=sound, jobs=shown)

    async def cancel(self, jobs: Collection[Job]) -> None:
        """One ``scancel`` an owner, of the tasks that bear these tags now."""
        if not jobs:
            return
        meant = {(job.batch, job.index, job.owner) for job in jobs}
        tasks: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for job in await self._look():
            if job.alive and (job.batch, job.index, job.owner) in meant:
                base = job.native.partition("_")[0]
                tasks[job.owner][base].append(job.index)
        results = await asyncio.gather(
            *(self._cancel(owner, arrays) for owner, arrays in tasks.items()),
            return_exceptions=True,
        )
        self._hint()
        for result in results:
            if result is not None:
                raise result

    async def _cancel(self, owner: str, arrays: dict[str, list[int]]) -> None:
        try:
            identity = await self._identity(owner)
        except Rejected as error:
            raise Unavailable(f"jobs of {owner} cannot be cancelled: {error}") from None
        words = [f"{base}_[{parse.ranges(indices)}]" for base, indices in arrays.items()]
        for at in range(0, len(words), _ARRAYS):
            part = words[at : at + _ARRAYS]
            done = await self._commands.run("scancel", *part, identity=identity)
            failure = parse.cancel_error(done.code, done.errors)
            if failure is not None:
                raise failure

    async def changes(self) -> AsyncIterator[None]:
        """Yields soon after a submission or cancellation of ours; Slurm itself tells nobody."""
        hint = asyncio.Event()
        self._hints.add(hint)
        try:
            while True:
                await hint.wait()
                hint.clear()
                await asyncio.sleep(SOON)
                yield
        finally:
            self._hints.discard(hint)

    async def logs(self, job: Job, *, tail: int) -> str:
        """The end of a job's output where this machine can see it, read with the owner's rights."""
        record = self._records.find(job.batch)
        if record is None or not record.logs:
            return ""
        identity = await self._identity(record.owner)
        path = f"{record.logs}/{job.batch.tag}/{job.index}.log"
        done = await self._files.run("tail", "-c", str(tail), "--", path, identity=identity)
        return done.output.decode(errors="replace")

    async def forget(self, cluster: str) -> None:
        """Delete a cluster's output where this machine can see it, and our notes."""
        for batch in self._records.of_cluster(self._gateway, cluster):
            record = self._records.find(batch)
            if record is not None and record.logs:
                await self._remove(record, f"{record.logs}/{batch.tag}")
            try:
                self._records.drop(batch)
            except OSError as error:
                raise Unavailable(f"the note of {batch.tag} stays: {error.strerror}") from error
        self._forgotten[cluster] = None
        while len(self._forgotten) > _FORGOTTEN:
            del self._forgotten[next(iter(self._forgotten))]

    async def figures(self) -> Sequence[Figure]:
        """Everybody's jobs, and expected waits; see ``penstock.backends.insight.Measured``."""
        return await self._measure.figures()

    async def aclose(self) -> None:
        """Nothing is held between two commands; jobs go on."""

    # --- helpers -----------------------------------------------------------------------------

    async def _look(self) -> list[Job]:
        separator = f"|{secrets.token_hex(8)}|"
        done = await self._commands.run("squeue", *parse.look_arguments(separator))
        failure = parse.ask_error("squeue", done.code, done.errors)
        if failure is not None:
            raise failure
        return await asyncio.to_thread(
            parse.parse_look, done.output.decode(errors="replace"), separator, self._gateway
        )

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
            old = self.capabilities
            self.capabilities = Capabilities(min(size, MOST), old.visibility, old.period)

    def _settings_of(self, batch: Batch) -> SlurmJobSettings:
        own = self._jobs.model_dump(exclude_unset=True)
        try:
            return SlurmJobSettings.model_validate({**own, **batch.extras})
        except ValidationError as error:
            raise Rejected(
                "; ".join(
                    f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
                )
            ) from None

    async def _identity(self, owner: str) -> Identity:
        """In a thread: a directory server may be slow."""
        return await asyncio.to_thread(identify, owner, allow_root=self._allow_root)

    def _hint(self) -> None:
        for hint in self._hints:
            hint.set()
