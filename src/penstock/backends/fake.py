"""A batch system in memory that can fail in every way the real ones do.

The core's rules are only worth what they survive: accepted jobs whose reply is lost, jobs that
show up late, partial listings, refusals, jobs that die, cancels that take their time, forged tags.
All of that is here, on purpose and by seed. Time is whatever the event loop and ``clock`` say, so a
test may run years in a second.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field

from penstock.backends.base import Capabilities
from penstock.backends.fate import NEVER, Faults, Life, as_it_is, bound
from penstock.model.errors import Full, Rejected, Unavailable, Uncertain
from penstock.model.ids import BatchId
from penstock.model.job import Batch, Exit, Job, Phase, Role, Snapshot

__all__ = ["NEVER", "FakeBackend", "Faults"]

_SLICE = 50
"""Batches that are shown at one go, so that nothing else in the process waits long."""


@dataclass(slots=True)
class _Accepted:
    batch: Batch
    lives: list[Life] = field(default_factory=list)


class FakeBackend:
    """See the module. ``rng`` decides what goes wrong; ``forget_after``: how long exits show."""

    def __init__(
        self,
        name: str = "fake",
        *,
        capabilities: Capabilities | None = None,
        clock: Callable[[], float] = time.time,
        faults: Faults | None = None,
        rng: random.Random | None = None,
        forget_after: float = 60.0,
    ) -> None:
        self.name = name
        self.capabilities = capabilities or Capabilities(visibility=2.0, period=1.0)
        self.faults = faults or Faults()
        self.limits: dict[Role, float] = {}
        """Seconds after which jobs of a role are ended, whatever they do."""
        self.unsure: set[str] = set()
        """Clusters whose jobs no look shows now, and says so."""
        self.submitted: list[BatchId] = []
        """Every id that was accepted, in order: none may come twice."""
        self._clock = clock
        self._rng = rng or random.Random(0)  # noqa: S311 - misfortune needs no secrecy
        self._forget_after = forget_after
        self._batches: dict[BatchId, _Accepted] = {}
        self._foreign: list[Job] = []
        self._changed = asyncio.Event()

    # -- the five verbs --

    async def submit(self, batch: Batch) -> None:
        """As ``Backend.submit``; what goes wrong is drawn from ``faults``."""
        faults = self.faults
        await asyncio.sleep(faults.latency * self._rng.random())
        if faults.refuse:
            raise Rejected(faults.refuse)
        if self._happens(faults.unavailable):
            raise Unavailable(f"{self.name}: connection refused")
        if faults.places < math.inf:
            waiting = sum(job.phase in (Phase.QUEUED, Phase.HELD) for job in self.alive())
            if waiting + batch.count > faults.places:
                raise Full(f"{self.name}: job submit limit")
        if self._happens(faults.lost_request):
            raise Uncertain(f"{self.name}: timed out")
        late = self._happens(faults.late)
        delay = 0.0
        if late or self._happens(faults.hidden):
            delay = self.capabilities.visibility * self._rng.random()
        self._accept(batch, delay)
        await asyncio.sleep(faults.latency * self._rng.random())
        if late or self._happens(faults.lost_reply):
            raise Uncertain(f"{self.name}: connection reset by peer")

    async def observe(self) -> Snapshot:
        """As ``Backend.observe``."""
        started = self._clock()
        await asyncio.sleep(self.faults.latency * self._rng.random())
        if self._happens(self.faults.blind):
            raise Unavailable(f"{self.name}: no answer")
        jobs = [*await self._show(), *self._foreign]
        if self._happens(self.faults.partial):
            kept = tuple(job for job in jobs if self._rng.random() < 0.5)
            return Snapshot(started, False, kept)
        shown = tuple(job for job in jobs if job.batch.cluster not in self.unsure)
        return Snapshot(started, True, shown, frozenset(self.unsure))

    async def cancel(self, jobs: Collection[Job]) -> None:
        """As ``Backend.cancel``."""
        await asyncio.sleep(self.faults.latency * self._rng.random())
        deaf = self._happens(self.faults.deaf)
        for job in jobs:
            if deaf and self._rng.random() < 0.5:
                continue
            self._end(job.batch, job.index, Exit.CANCELLED, 143, "", self.faults.cancel_time)
            self._foreign = [other for other in self._foreign if other.native != job.native]
        if deaf:
            raise Unavailable(f"{self.name}: no answer")

    async def changes(self) -> AsyncIterator[None]:
        """As ``Backend.changes``: after every submit, cancel and scripted event."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            yield

    async def logs(self, job: Job, *, tail: int) -> str:
        """As ``Backend.logs``: what ``finish`` or ``say`` gave the job as output."""
        life = self._life(job.batch, job.index)
        return life.output[-tail:] if life else ""

    async def forget(self, cluster: str) -> None:
        """As ``Backend.forget``."""
        for batch in [batch for batch in self._batches if batch.cluster == cluster]:
            del self._batches[batch]

    async def aclose(self) -> None:
        """As ``Backend.aclose``: nothing is held."""

    def time_limit(self, extras: Mapping[str, object]) -> float | None:
        """As ``Timed.time_limit``: the extra ``time``, in seconds."""
        limit = extras.get("time")
        return float(limit) if isinstance(limit, (int, float)) else None

    # -- what a test does to it --

    def finish(
        self,
        batch: BatchId,
        index: int,
        *,
        code: int = 1,
        exit: Exit | None = None,
        reason: str = "",
        output: str = "",
    ) -> None:
        """End a job now, by itself or as ``exit`` says. Raises KeyError for an unknown job."""
        life = self._batches[batch].lives[index]
        life.output += output
        how = exit or (Exit.FAILED if code else Exit.DONE)
        self._end(batch, index, how, code, reason, 0.0)

    def say(self, batch: BatchId, index: int, output: str) -> None:
        """Add to a job's output."""
        self._batches[batch].lives[index].output += output

    def hold(self, batch: BatchId, index: int, reason: str) -> None:
        """Keep a queued job from running."""
        life = self._batches[batch].lives[index]
        life.held, life.starts = reason, NEVER
        bound(life, life.limit)

    def run(self, batch: BatchId, index: int) -> None:
        """Let a queued or held job run now."""
        life = self._batches[batch].lives[index]
        life.held, life.starts = "", min(life.starts, self._clock())
        bound(life, life.limit)
        self._changed.set()

    def forge(self, job: Job) -> None:
        """List a job that was not submitted through us."""
        self._foreign.append(job)

    def batch(self, batch: BatchId) -> Batch:
        """What was submitted under this id. Raises KeyError when nothing was."""
        return self._batches[batch].batch

    def alive(self) -> list[Job]:
        """All accepted jobs that are not over, visible or not, as they are now."""
        now = self._clock()
        jobs = (
            as_it_is(life, now) for accepted in self._batches.values() for life in accepted.lives
        )
        return [job for job in jobs if job.alive]

    # -- within --

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._rng.random() < probability

    def _accept(self, batch: Batch, delay: float) -> None:
        self.submitted.append(batch.id)
        if batch.id in self._batches:
            raise Rejected(f"{self.name}: {batch.id.tag} was submitted before")
        now = self._clock()
        accepted = _Accepted(batch)
        for index in range(batch.count):
            wait = delay + self.faults.queue_wait * self._rng.random()
            life = Life(
                Job(
                    batch.id,
                    index,
                    f"{len(self.submitted)}.{index}",
                    batch.owner,
                    Phase.QUEUED,
                    submitted=now,
                ),
                visible=now + delay,
                starts=now + wait,
            )
            bound(life, self.limits.get(batch.role))
            if self._happens(self.faults.dies):
                life.ends = life.starts + self.faults.dies_within * self._rng.random()
                life.gone, life.exit, life.code = life.ends, Exit.FAILED, 1
            accepted.lives.append(life)
        self._batches[batch.id] = accepted
        self._changed.set()

    def _life(self, batch: BatchId, index: int) -> Life | None:
        accepted = self._batches.get(batch)
        return accepted.lives[index] if accepted and index < len(accepted.lives) else None

    def _end(
        self, batch: BatchId, index: int, exit: Exit, code: int, reason: str, takes: float
    ) -> None:
        life = self._life(batch, index)
        now = self._clock()
        if life is None or life.ends <= now:
            return
        life.ends, life.gone = now, now + takes
        life.exit, life.code, life.reason = exit, code, reason
        self._changed.set()

    async def _show(self) -> list[Job]:
        """Every visible job, but those that were over long ago."""
        shown: list[Job] = []
        for number, accepted in enumerate(list(self._batches.values())):
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            now = self._clock()
            shown += [
                as_it_is(life, now)
                for life in accepted.lives
                if life.visible <= now < life.gone + self._forget_after
            ]
        return shown
