"""HTCondor behind the five verbs of ``penstock.backends.base``.

One ``queue N`` a batch and one question a period whatever there is to watch: a submission a worker
is what makes gateways slow. Jobs run once: what HTCondor evicts, holds or loses is removed, and
replaced by the core under a new tag.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path

from penstock.backends import fence, payload
from penstock.backends.base import Capabilities
from penstock.backends.command import Commands, Done
from penstock.backends.extras import with_extras
from penstock.backends.hints import Hints
from penstock.backends.htcondor import parse, replies, submit
from penstock.backends.htcondor.acting import Acting, Actor, Actors
from penstock.backends.htcondor.files import Files
from penstock.backends.htcondor.watched import Watched
from penstock.backends.owner import Identity
from penstock.backends.records import Record, Records
from penstock.model.errors import Absent, BackendError, Full, Rejected, Unavailable
from penstock.model.ids import BatchId
from penstock.model.job import Batch, Job, Phase, Snapshot
from penstock.settings.htcondor import HTCondorJobSettings

MOST = 10_000
"""Indices of one submission; MAX_JOBS_PER_SUBMISSION is 20,000 unless the site says otherwise."""

MOST_SPOOLED = 1000
"""The same where each job's files go over the network, some milliseconds each."""

SOON = 1.0
"""Seconds after which HTCondor has acted on what it was told."""

_READERS = 4
"""Who read output by HTCondor at a time, from machines that may hang; others wait for these, and
not looks and submissions."""

_FORGOTTEN = 10_000
_CLUSTERS = 100
"""Clusters in one ``condor_rm``."""

Procs = Mapping[tuple[BatchId, int], list[int]]


class HTCondorBackend(Watched):
    """The backend ``htcondor``; see ``penstock.backends.base.Backend`` for the verbs.

    ``gateway``: whose jobs these are. ``directory``: for the server's own notes and tokens (0700).
    ``files``: where jobs' script and output lie. ``commands``: see ``condor_commands``. ``jobs``:
    settings of jobs whose profile says nothing else. ``acting``: how jobs become the users'.
    ``schedd``, ``pool``: names, None for this machine's. ``spool``: files travel by the network.
    ``remember``, ``grace``, ``lease``: seconds, see ``HTCondorBackendSettings``.
    """

    def __init__(
        self,
        name: str,
        gateway: str,
        directory: Path,
        files: Path,
        commands: Commands,
        *,
        jobs: HTCondorJobSettings | None = None,
        acting: Acting | None = None,
        schedd: str | None = None,
        pool: str | None = None,
        spool: bool = False,
        allow_root: bool = False,
        visibility: float = 30.0,
        period: float = 5.0,
        remember: float = 600.0,
        grace: float = 30.0,
        lease: float = 2400.0,
        max_queued: int | None = None,
    ) -> None:
        self.name = name
        most = MOST_SPOOLED if spool else MOST
        self.capabilities = Capabilities(most, visibility, period, max_queued)
        self._gateway = gateway
        self._commands = commands
        self._jobs = jobs or HTCondorJobSettings()
        acting = acting or Acting()
        self._actors = Actors(acting, commands, directory / "tokens", allow_root=allow_root)
        self._where = [*(["-pool", pool] if pool else []), *(["-name", schedd] if schedd else [])]
        self._spool = spool
        # What runs as the user can read the user's files alone.
        self._own_files = self._actors.own or (spool and acting.way != "itself")
        self._times = {"remember": remember, "grace": grace, "lease": lease}
        self._records = Records(directory / "batches")
        self._files = Files(files, timeout=commands.timeout)
        self._hints = Hints(SOON)
        self._readers = asyncio.Semaphore(_READERS)
        self._forgotten: dict[str, None] = {}
        self._sound = True

    async def submit(self, batch: Batch) -> None:
        """One ``condor_submit`` for the batch's owner."""
        payload.check(batch, "HTCondor", most=self.capabilities.max_batch)
        jobs = with_extras(self._jobs, batch.extras)
        actor = await self._actors.of(batch.owner)
        identity = await self._file_identity(batch.owner)
        script = submit.job_script(batch)
        place = self._files.place(batch.owner, batch.id.tag)
        self._records.reserve(batch.id, Record(batch.owner, place))
        try:
            name = submit.program(batch)
            await self._files.write(batch.owner, batch.id.tag, name, script, identity)
            await self._submit(batch, jobs, actor, place)
        except (Rejected, Unavailable, Full, Absent):
            with contextlib.suppress(Unavailable):
                await self._files.remove(batch.owner, batch.id.tag, identity)
            self._records.drop(batch.id)
            raise
        self._hints.give()

    def time_limit(self, extras: Mapping[str, object]) -> float | None:
        """As ``Timed.time_limit``: what the jobs or their pool say."""
        jobs = with_extras(self._jobs, extras)
        return min((each for each in (jobs.time, jobs.pool_time) if each is not None), default=None)

    async def _submit(
        self, batch: Batch, jobs: HTCondorJobSettings, actor: Actor, place: str
    ) -> None:
        text = submit.description(
            batch, jobs, place, owner=batch.owner if actor.named else None, **self._times
        )
        words = ["-terse", *self._where, *(["-spool"] if self._spool else [])]
        words += ["-disable"] if actor.named else []
        done = await self._run(actor, "condor_submit", *words, "-", data=text.encode())
        failure = replies.submit_error(done.code, done.errors)
        if failure is not None:
            self._disappointed(batch.owner, failure)
            raise failure

    async def observe(self) -> Snapshot:
        """One ``condor_q`` for all users.

        The first answer after a failure proves no absence: a submission that a hanging schedd has
        yet to read may be behind the question.
        """
        started = time.time()
        sound, self._sound = self._sound, False
        jobs = await self._look()
        self._sound = True
        shown = tuple(job for job in jobs if job.alive or job.batch.cluster not in self._forgotten)
        return Snapshot(started, complete=sound, jobs=shown)

    async def cancel(self, jobs: Collection[Job]) -> None:
        """One ``condor_rm`` an owner, of the jobs that bear these tags now."""
        if not jobs:
            return
        meant = {(job.batch, job.index, job.owner) for job in jobs}
        procs: dict[str, dict[tuple[BatchId, int], list[int]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for job in await self._look():
            if job.alive and (job.batch, job.index, job.owner) in meant:
                cluster = int(job.native.partition(".")[0])
                procs[job.owner][job.batch, cluster].append(job.index)
        results = await asyncio.gather(
            *(self._cancel(owner, clusters) for owner, clusters in procs.items()),
            return_exceptions=True,
        )
        self._hints.give()
        for result in results:
            if result is not None:
                raise result

    async def _cancel(self, owner: str, procs: Procs) -> None:
        try:
            actor = await self._actors.of(owner)
        except Rejected as error:
            raise Unavailable(f"jobs of {owner} cannot be removed: {error}") from None
        clusters = list(procs.items())
        for at in range(0, len(clusters), _CLUSTERS):
            part = clusters[at : at + _CLUSTERS]
            constraint = " || ".join(
                parse.removal(batch, owner, cluster, indices) for (batch, cluster), indices in part
            )
            words = [*self._where, "-constraint", constraint]
            done = await self._run(actor, "condor_rm", *words)
            failure = replies.removal_error(done.code, done.errors)
            if failure is None and replies.was_absent(done.code, done.errors):
                failure = await self._untouched(owner, dict(part), done.errors)
            if failure is not None:
                self._disappointed(owner, failure)
                raise failure

    async def _untouched(self, owner: str, procs: Procs, errors: str) -> Unavailable | None:
        """Nothing was found: all are gone meanwhile, or this owner's are not ours to touch."""
        for job in await self._look():
            cluster = int(job.native.partition(".")[0])
            there = job.index in procs.get((job.batch, cluster), ()) and job.owner == owner
            if there and job.alive and job.phase is not Phase.ENDING:
                return Unavailable(f"HTCondor did not remove {job.native}: {replies.said(errors)}")
        return None

    def changes(self) -> AsyncIterator[None]:
        """Yields soon after a submission or removal of ours; HTCondor itself tells nobody."""
        return self._hints.changes()

    async def logs(self, job: Job, *, tail: int) -> str:
        """The end of a job's output: what came back, or from its machine while it runs."""
        record = self._records.find(job.batch)
        if record is None:
            return ""
        try:
            actor = await self._actors.of(record.owner)
            identity = await self._file_identity(record.owner)
        except Rejected:  # the account is gone
            return ""
        path = f"{record.logs}/{job.index}.log"
        data = await self._files.tail(path, tail, identity)
        if data is None:
            async with self._readers:
                data = await self._fetch(job, actor, tail)
        if data is None and self._spool:
            data = await self._files.tail(path, tail, identity)
        return (data or b"").decode(errors="replace")

    async def _fetch(self, job: Job, actor: Actor, tail: int) -> bytes | None:
        """What a job that runs has written; or let what one has left behind come here."""
        jobs = await self._look(job.batch)
        now = next((one for one in jobs if (one.index, one.owner) == (job.index, job.owner)), None)
        if now is not None and now.phase in (Phase.RUNNING, Phase.ENDING):
            words = [*self._where, "-maxbytes", str(tail), now.native]
            done = await self._run(actor, "condor_tail", *words)
            return done.output[-tail:] if done.code == 0 else None
        if now is not None and self._spool and not now.alive:
            await self._bring(actor, now)
        return None

    async def forget(self, cluster: str) -> None:
        """Delete a cluster's scripts and output, and our notes."""
        for batch in self._records.of_cluster(self._gateway, cluster):
            record = self._records.find(batch)
            if record is not None:
                # A user without an account has no files that could be reached: they are the site's.
                with contextlib.suppress(Rejected):
                    identity = await self._file_identity(record.owner)
                    await self._files.remove(record.owner, batch.tag, identity)
            self._records.drop(batch)
        self._forgotten[cluster] = None
        while len(self._forgotten) > _FORGOTTEN:
            del self._forgotten[next(iter(self._forgotten))]

    async def aclose(self) -> None:
        """Nothing is held between two commands; jobs go on."""
        await self._commands.aclose()

    # --- helpers -----------------------------------------------------------------------------

    async def _look(self, batch: BatchId | None = None) -> list[Job]:
        words = [*self._where, *parse.look_arguments(self._gateway, batch)]
        done = await self._run(await self._actors.looker(), "condor_q", *words)
        failure = replies.ask_error("condor_q", done.code, done.errors)
        if failure is not None:
            self._disappointed(self._actors.me, failure)
            raise failure
        return await asyncio.to_thread(parse.parse_look, done.output, self._gateway)

    async def _run(self, actor: Actor, name: str, *words: str, data: bytes = b"") -> Done:
        return await self._commands.run(
            name, *words, identity=actor.identity, data=data, environ=actor.environ
        )

    async def _bring(self, actor: Actor, job: Job) -> None:
        """Fetch what a job that is over has left. Its owner can say where to: with other rights than
        the owner's it may be nowhere but in the batch's directory."""
        name = "condor_transfer_data"
        path = self._commands.find(name)
        theirs = self._actors.own or actor.identity is not None
        place = self._files.place(job.owner, job.batch.tag)
        words = (name,) if theirs or path is None else fence.words(place, path)
        await self._run(actor, *words, *self._where, job.native)

    async def _file_identity(self, owner: str) -> Identity | None:
        """With whose rights a user's files are touched; None: they are the gateway's own."""
        return None if self._own_files else await self._actors.identity(owner)

    def _disappointed(self, owner: str, failure: BackendError) -> None:
        """An old token is a usual reason for not being let in."""
        if isinstance(failure, Unavailable | Absent):
            self._actors.forget(owner)
