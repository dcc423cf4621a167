"""Jobs as processes of this machine, each as its own Unix user, which outlive the server.

Not systemd-run, because the embedded server is nobody's administrator and containers have no
systemd; not a daemon of our own, because there would be one more thing to restart. A launcher for
each batch (``penstock.backends.launcher``) is the jobs' parent and writes down how they end; the
server only reads directories and ``/proc``, and signals through pidfds.
"""

from __future__ import annotations

import asyncio
import os
import platform
import pwd
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from penstock.backends.base import Capabilities
from penstock.backends.insight import Finding
from penstock.backends.local import doctor, ending, journal
from penstock.backends.local.changes import Changes
from penstock.backends.local.ending import Enders, Key, Targets
from penstock.backends.local.journal import Look, Record
from penstock.backends.local.proc import ProcessTable, boot_id
from penstock.backends.local.request import check, encode
from penstock.backends.local.start import run_launcher
from penstock.backends.local.tree import Tree
from penstock.backends.owner import identify, user_name
from penstock.model.demand import Demand
from penstock.model.errors import BackendError, Unavailable, Uncertain
from penstock.model.ids import BatchId
from penstock.model.job import Batch, Job, Phase, Snapshot

T = TypeVar("T")
MAX_BATCH = 500


class LocalBackend:
    """The backend ``local``; see ``penstock.backends.base.Backend`` for the verbs.

    ``gateway``: whose jobs these are. ``directory``: made when it is missing; as root it must be
    one that users can pass through. ``allow_root``: jobs may run as root (the server of a machine
    that has no other user). ``visibility``: seconds after which a submission cannot start any
    more. ``grace``: seconds between asking a job to end and ending it. ``recent``: seconds for
    which an ended job stays in snapshots. ``period``: seconds between two looks when all is quiet.
    """

    def __init__(
        self,
        name: str,
        gateway: str,
        directory: Path,
        *,
        allow_root: bool = False,
        visibility: float = 15.0,
        grace: float = 10.0,
        recent: float = 900.0,
        period: float = 5.0,
        demands: Sequence[Demand] = (),
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(max_batch=MAX_BATCH, visibility=visibility, period=period)
        self._gateway = gateway
        self._allow_root = allow_root
        self._grace = grace
        self._directory, self._demands = directory, demands
        self._tree = Tree(directory, gateway, shared=os.geteuid() == 0, recent=recent)
        self._table = ProcessTable()
        self._changes = Changes(directory, self._tree.socket_name)
        # One thread looks and signals, so that nothing there needs a lock; submissions, which
        # wait for processes to start, do not hold it up.
        self._looker = ThreadPoolExecutor(1, "penstock-local-look")
        self._starter = ThreadPoolExecutor(4, "penstock-local-start")
        self._enders = Enders(lambda jobs: self._in(self._looker, lambda: self._kill(jobs)))
        self._families: Targets = {}

    async def submit(self, batch: Batch) -> None:
        """Start all jobs of a batch; returns when they run, or none does."""
        await self._in(self._starter, lambda: self._submit(batch))

    async def observe(self) -> Snapshot:
        """One look at our directories and ``/proc``."""
        snapshot, left = await self._in(self._looker, self._observe)
        self._enders.begin(left, 0.0)
        return snapshot

    async def cancel(self, jobs: Collection[Job]) -> None:
        """SIGTERM to all processes of these jobs, SIGKILL to what is left after the grace."""
        new = [job for job in jobs if (job.batch, job.index) not in self._enders]
        if not new:
            return
        targets, refused = await self._in(self._looker, lambda: self._cancel(new))
        self._enders.begin(targets, self._grace)
        if refused:
            raise Unavailable("; ".join(refused))

    async def changes(self) -> AsyncIterator[None]:
        """Yields when a launcher says that one of its jobs ended. Raises Unavailable."""
        await self._in(self._looker, self._tree.prepare)
        async for _ in self._changes:
            yield

    async def logs(self, job: Job, *, tail: int) -> str:
        """The last ``tail`` bytes of what a job wrote to its output."""
        return await self._in(self._looker, lambda: self._logs(job, tail))

    async def forget(self, cluster: str) -> None:
        """Delete the directories of a cluster. Raises Unavailable when one cannot be deleted."""
        await self._in(self._looker, lambda: self._forget(cluster))

    def examine(self, owner: str | None = None) -> AsyncIterator[Finding]:
        """See ``penstock.backends.insight.Examined``."""
        return doctor.examine(self._directory, self._demands, owner, allow_root=self._allow_root)

    async def aclose(self) -> None:
        """Stop watching; jobs go on."""
        self._changes.close()
        await self._enders.aclose()
        for pool in (self._looker, self._starter):
            await asyncio.to_thread(pool.shutdown)

    async def _in(self, pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, call)

    # --- starting (in the starter's threads) -------------------------------------------------

    def _submit(self, batch: Batch) -> None:
        nice = check(batch, most=MAX_BATCH)
        identity = identify(batch.owner, allow_root=self._allow_root)
        tag, patience = batch.id.tag, self.capabilities.visibility * 0.6
        self._tree.prepare()
        try:
            path = self._tree.reserve(tag)
        except FileExistsError:
            raise Uncertain(f"{tag} was submitted before; it is not started twice") from None
        except OSError as error:
            where = self._tree.root
            raise Unavailable(f"no job can be started in {where}: {error.strerror}") from error
        request = encode(
            batch,
            identity,
            nice=nice,
            directory=str(path.absolute()),
            boot=boot_id(),
            deadline=time.monotonic() + patience,
            socket=f"../{self._tree.socket_name}",
        )
        try:
            run_launcher(path, tag, request, timeout=patience + 2.0)
        except Uncertain:
            raise
        except BackendError:
            self._tree.drop(tag)
            raise

    # --- looking and ending (in the looker's one thread) -------------------------------------

    def _look(self) -> Look:
        return Look.of(time.time(), boot_id(), platform.node(), self._table.scan())

    def _observe(self) -> tuple[Snapshot, Targets]:
        started = time.time()
        look = self._look()
        # After the processes: a job that ended in between has its exit written down by now.
        known, complete = self._tree.look()
        jobs: list[Job] = []
        left: Targets = {}
        for batch, kept in known.items():
            record = kept.record
            if record is None or not self._tree.current(kept, look.now):
                continue
            judged = journal.judge(batch, record, kept.cancelled, look)
            if record.boot == look.boot and not look.has(record.pid, record.start):
                here = self._left_behind(record, judged, look)
                judged = [_still_ending(job, record, here) for job in judged]
                left.update(here)
            jobs += judged
        tags = {batch.tag for batch in known}
        for (batch, index), process in journal.unrecorded(self._gateway, tags, look).items():
            jobs.append(_without_record(batch, index, process.pid, process.uid, look))
        return Snapshot(started, complete, tuple(jobs)), left

    def _left_behind(self, record: Record, judged: Collection[Job], look: Look) -> Targets:
        """What jobs left behind that ended by themselves and have no launcher to clean up.

        The family of such a job is remembered as long as its main process shows who belongs to it.
        """
        left = {}
        for job in judged:
            key = job.batch, job.index
            started = record.started[job.index]
            main = look.has(started.pid, started.start)
            family = ending.still(self._families.pop(key, set()), look)
            family |= ending.members(*key, record, look)
            if family:
                self._families[key] = family
                if main is None or not main.alive:
                    left[key] = family
        return left

    def _cancel(self, jobs: Collection[Job]) -> tuple[Targets, list[str]]:
        targets, first = self._targets({(job.batch, job.index): job for job in jobs})
        indices: dict[BatchId, set[int]] = {}
        for batch, index in targets:
            indices.setdefault(batch, set()).add(index)
        for batch, some in indices.items():
            self._tree.note_cancelled(batch, some)
        return targets, ending.ask(first)

    def _targets(self, jobs: dict[Key, Job]) -> tuple[Targets, set[ending.Target]]:
        """(all processes of these jobs, those of them that are asked first)."""
        look = self._look()
        known, _ = self._tree.look()
        found: Targets = {}
        first: set[ending.Target] = set()
        for (batch, index), job in jobs.items():
            kept = known.get(batch)
            record = kept.record if kept else _guess(job, look)
            if record is None or record.owner != job.owner:
                continue
            targets = ending.members(batch, index, record, look)
            if targets:
                found[batch, index] = targets
                first |= ending.asked_first(index, record, targets)
        return found, first

    def _kill(self, jobs: Targets) -> Targets:
        """Kill what is left of these jobs, children of the meantime included; says what was."""
        look = self._look()
        known, _ = self._tree.look()
        left: Targets = {}
        for (batch, index), targets in jobs.items():
            now = ending.still(targets, look)
            kept = known.get(batch)
            if kept is not None and kept.record is not None:
                now |= ending.members(batch, index, kept.record, look)
            if now:
                ending.kill(now)
                left[batch, index] = now
        return left

    # --- what is kept -----------------------------------------------------------------------

    def _logs(self, job: Job, tail: int) -> str:
        known, _ = self._tree.look()
        kept = known.get(job.batch)
        if kept is None or kept.record is None:
            return ""
        data = self._tree.tail(job.batch, job.index, kept.record.uid, tail)
        return data.decode("utf-8", "replace")

    def _forget(self, cluster: str) -> None:
        look = self._look()
        known, _ = self._tree.look()
        for batch in self._tree.batches():
            if batch.cluster != cluster:
                continue
            kept = known.get(batch)
            if kept and kept.record:
                jobs = journal.judge(batch, kept.record, kept.cancelled, look)
                if any(job.alive for job in jobs):
                    raise Unavailable(f"jobs of {batch.tag} still run, so its directory stays")
            try:
                self._tree.drop(batch.tag)
            except OSError as error:
                where = self._tree.root / batch.tag
                raise Unavailable(f"{where} cannot be deleted: {error.strerror}") from error


def _still_ending(job: Job, record: Record, left: Targets) -> Job:
    """Nobody wrote down its end, so it ends with its last process."""
    if (job.batch, job.index) not in left or job.index in record.ended:
        return job
    return replace(job, phase=Phase.ENDING, exit=None, exit_code=None, reason="")


def _without_record(batch: BatchId, index: int, pid: int, uid: int | None, look: Look) -> Job:
    return Job(
        batch=batch,
        index=index,
        native=str(pid),
        owner=user_name(-1 if uid is None else uid),
        phase=Phase.RUNNING,
        reason="found by its environment: its directory is gone",
        node=look.node,
    )


def _guess(job: Job, look: Look) -> Record | None:
    """A record for a job whose directory is gone: its owner's uid is all that can be checked."""
    try:
        uid = pwd.getpwnam(job.owner).pw_uid
    except KeyError:
        return None
    return Record(look.boot, job.owner, uid, job.index + 1, pid=0, start=0)
