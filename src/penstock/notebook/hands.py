"""Carries out what the server asks, on a real backend, for the jobs of one cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from penstock.backends.base import Backend
from penstock.backends.relay.wire import MAX_LOG, decode_batch, encode_failure, encode_jobs
from penstock.model.errors import BackendError, Rejected, Unavailable, Uncertain
from penstock.model.ids import BatchId
from penstock.model.job import Batch, Job, Phase, Snapshot

Message = Mapping[str, object]
Handle = tuple[int, int, str]

_PAUSE = 0.5
"""Seconds between two looks while everything ends."""


class Hands:
    """See the module. ``owner``: as whom jobs are submitted here, whatever the gateway calls them.

    ``prepare`` makes a batch fit for this place; it may raise Rejected or Unavailable.
    """

    def __init__(
        self,
        backend: Backend,
        gateway: str,
        cluster: str,
        owner: str,
        prepare: Callable[[Batch], Batch] = lambda batch: batch,
    ) -> None:
        self.backend = backend
        self._gateway = gateway
        self._cluster = cluster
        self._owner = owner
        self._prepare = prepare
        self._names = {owner}
        self._seen: dict[Handle, Job] = {}
        self._submitting = 0
        self._unclear_until = float("-inf")
        self.leaving = False

    async def answer(self, message: Message) -> dict[str, object]:
        """The answer to one request, without its id."""
        verbs = {
            "submit": self._submit,
            "observe": self._observe,
            "cancel": self._cancel,
            "logs": self._logs,
            "forget": self._forget,
        }
        verb = verbs.get(str(message.get("op")))
        try:
            if verb is None:
                raise Rejected(f"this notebook cannot {str(message.get('op'))[:40]!r}")
            return await verb(message)
        except BackendError as error:
            return encode_failure(error)
        except Exception as error:
            return encode_failure(Uncertain(f"{type(error).__name__}: {error}"))

    async def clear(self, seconds: float, told: Callable[[int], None] = lambda n: None) -> bool:
        """End all jobs of the cluster; whether none is left after at most ``seconds``.

        ``told`` is called with a number once that many were told to end. Nothing is submitted any
        more.
        """
        self.leaving = True
        deadline = _now() + seconds
        while True:
            snapshot = await self._try_look()
            alive = [job for job in snapshot.jobs if job.alive] if snapshot else []
            if snapshot and snapshot.complete and not alive and not self._unclear():
                told(0)
                return True
            ending = [job for job in alive if job.phase is not Phase.ENDING]
            if ending and await self._try_cancel(ending):
                told(len(ending))
            if _now() + _PAUSE > deadline:
                return False
            await asyncio.sleep(_PAUSE)

    # -- the verbs --

    async def _submit(self, message: Message) -> dict[str, object]:
        if self.leaving:
            raise Unavailable("this notebook is just ending")
        batch = self._prepare(decode_batch(message, self._gateway, self._cluster, self._owner))
        self._submitting += 1
        try:
            await self.backend.submit(batch)
        except (Rejected, Unavailable):
            raise
        except BaseException:
            self._unclear_until = _now() + self.backend.capabilities.visibility
            raise
        finally:
            self._submitting -= 1
        return {"op": "done"}

    async def _observe(self, message: Message) -> dict[str, object]:
        unclear = self._unclear()  # before the look: one that ends meanwhile may be missed by it
        snapshot = await self._look()
        return {
            "op": "done",
            "now": time.time(),
            "complete": snapshot.complete and not unclear,
            "jobs": encode_jobs(snapshot.jobs),
        }

    async def _cancel(self, message: Message) -> dict[str, object]:
        handles = message.get("jobs")
        jobs = [self._job(handle) for handle in (handles if isinstance(handles, list) else [])]
        await self.backend.cancel(jobs)
        return {"op": "done"}

    async def _logs(self, message: Message) -> dict[str, object]:
        tail = message.get("tail")
        size = min(MAX_LOG, tail) if isinstance(tail, int) else MAX_LOG
        text = await self.backend.logs(self._job(message.get("job")), tail=size)
        return {"op": "done", "text": text}

    async def _forget(self, message: Message) -> dict[str, object]:
        await self.backend.forget(self._cluster)
        return {"op": "done"}

    # -- within --

    def _unclear(self) -> bool:
        """Whether jobs may be on their way that a look does not show."""
        return self._submitting > 0 or _now() < self._unclear_until

    async def _look(self) -> Snapshot:
        snapshot = await self.backend.observe()
        jobs = tuple(
            job
            for job in snapshot.jobs
            if (job.batch.gateway, job.batch.cluster) == (self._gateway, self._cluster)
        )
        self._learn({job.owner for job in jobs})
        jobs = tuple(job for job in jobs if job.owner in self._names)
        self._seen = {(job.batch.sequence, job.index, job.native): job for job in jobs}
        complete = snapshot.complete and self._cluster not in snapshot.unsure
        return Snapshot(snapshot.started, complete, jobs)

    def _learn(self, owners: set[str]) -> None:
        """How the batch system calls our account: a token may be another name's.

        Anybody can write a tag, so nobody is believed who shows up beside the one that is known.
        """
        if len(owners) == 1 and self._names == {self._owner}:
            self._names |= owners

    async def _try_look(self) -> Snapshot | None:
        try:
            return await self._look()
        except BackendError:
            return None

    async def _try_cancel(self, jobs: list[Job]) -> bool:
        try:
            await self.backend.cancel(jobs)
        except BackendError:
            return False
        return True

    def _job(self, handle: object) -> Job:
        """The job that a handle names, as the last look showed it. Raises Rejected."""
        match handle:
            case [int() as sequence, int() as index, str() as native]:
                batch = BatchId(self._gateway, self._cluster, sequence)
                known = Job(batch, index, native, self._owner, Phase.RUNNING)
                return self._seen.get((sequence, index, native), known)
        raise Rejected(f"no job is named {str(handle)[:100]}")


def _now() -> float:
    return asyncio.get_running_loop().time()
