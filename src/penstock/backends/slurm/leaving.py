"""Workers that shall go although others of their job stay: who was told, and who has to wait.

Slurm shows a job and not the workers in it, so what became of one that was told to end is known
from its agent alone, which ends it for certain within seconds. This memory only spares Slurm: after
a restart the core asks for the same workers again, and they are told again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace

from penstock.backends.slurm.sharing import Ending, Key, endings, key
from penstock.model.errors import Unavailable
from penstock.model.job import Exit, Job, Phase

TIMES = 2
"""How often a worker is told: the first signal may meet a job that has yet to start it."""

GONE = 30.0
"""Seconds after the last signal by which a worker is gone: its agent insists after 20."""


@dataclass(slots=True)
class _Told:
    times: int
    last: float


class Leaving:
    """``end`` carries an ending out as an owner, raising Unavailable; ``clock`` is a steady one."""

    def __init__(
        self, end: Callable[[str, Ending], Awaitable[None]], clock: Callable[[], float]
    ) -> None:
        self._end = end
        self._clock = clock
        self._told: dict[Key, _Told] = {}
        self._later: set[Key] = set()

    async def carry_out(self, shown: Sequence[Job], meant: Collection[Key]) -> None:
        """End these workers among those that a look showed, as far as it can be done now.

        Raises Unavailable when some may not have been told, after all others were.
        """
        done = {one for one, told in self._told.items() if told.times >= TIMES}
        known = self._told.keys() | self._later
        found = endings(shown, {*meant, *known}, meant=meant, done=done)
        results = await asyncio.gather(
            *(self._end_now(owner, ending) for owner, ending in found.items()),
            return_exceptions=True,
        )
        for result in results:
            if result is not None:
                raise result

    async def _end_now(self, owner: str, ending: Ending) -> None:
        await self._end(owner, ending)
        self._later.update(ending.later)
        self._later.difference_update(ending.told)
        for one in ending.told:
            before = self._told.get(one)
            self._told[one] = _Told(before.times + 1 if before else 1, self._clock())

    async def apply(self, shown: Sequence[Job]) -> Sequence[Job]:
        """What a look showed, with what is known of workers that were told to go."""
        if not self._told and not self._later:
            return shown
        alive = {key(job): job for job in shown if job.alive}
        self._told = {one: told for one, told in self._told.items() if one in alive}
        self._later &= alive.keys()
        due = [one for one in self._later if alive[one].phase is Phase.RUNNING]
        if due:
            with contextlib.suppress(Unavailable):  # the next look tries again
                await self.carry_out(shown, due)
        return [self._as_known(job) for job in shown]

    def _as_known(self, job: Job) -> Job:
        told = self._told.get(key(job))
        if told is None or not job.alive:
            return job
        if told.times < TIMES or self._clock() - told.last < GONE:
            return replace(job, phase=Phase.ENDING)
        return replace(job, phase=Phase.EXITED, exit=Exit.CANCELLED, ends=None)
