"""Several workers in one job: which job is whose, and what has to be told to whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.backends.slurm import sharing
from penstock.backends.slurm.leaving import GONE, Leaving
from penstock.backends.slurm.sharing import Ending, Sharing
from penstock.model.errors import Unavailable
from penstock.model.ids import BatchId
from penstock.model.job import Exit, Job, Phase

BATCH = BatchId("0123abcd", "f" * 32, 3)
RUNNING, QUEUED = Phase.RUNNING, Phase.QUEUED


def jobs(count: int, each: int, phase: Phase = RUNNING, owner: str = "alice") -> list[Job]:
    return [Job(BATCH, index, f"7_{index // each}", owner, phase) for index in range(count)]


def keys(*indices: int, owner: str = "alice") -> set[sharing.Key]:
    return {(BATCH, index, owner) for index in indices}


@given(st.integers(1, 30), st.integers(1, 200))
def test_every_index_is_in_exactly_one_task(each: int, count: int) -> None:
    shared = Sharing(each, count)
    found = [index for task in range(shared.tasks) for index in shared.indices(task)]
    assert found == list(range(count))
    said = sharing.parse_comment(sharing.comment(BATCH, shared))
    assert said == (BATCH, shared if each > 1 else sharing.ALONE)


def test_tasks_of_which_nobody_is_wanted_are_cancelled() -> None:
    shown = jobs(10, 4)
    found = sharing.endings(shown, keys(*range(4, 10)), meant=keys(*range(4, 10)), done=())
    assert found == {"alice": Ending(tasks={"7": [1, 2]})}


@pytest.mark.parametrize(("phase", "each"), [(RUNNING, 1), (QUEUED, 1), (QUEUED, 2)])
def test_a_job_of_ones_own_needs_no_signal(phase: Phase, each: int) -> None:
    shown = jobs(2 * each, each, phase)
    meant = keys(*range(each))
    assert sharing.endings(shown, meant, meant=meant, done=()) == {"alice": Ending({"7": [0]})}


def test_some_of_a_task_are_signalled_by_their_place() -> None:
    meant = keys(1, 4, 5)
    found = sharing.endings(jobs(8, 4), meant, meant=meant, done=())["alice"]
    assert found.tasks == {}
    assert found.signals == {36: {"7": [0, 1]}, 35: {"7": [1]}}
    assert set(found.told) == meant


def test_some_of_a_queued_task_have_to_wait() -> None:
    meant = keys(1)
    found = sharing.endings(jobs(4, 4, QUEUED), meant, meant=meant, done=())["alice"]
    assert (found.tasks, found.signals, found.later) == ({}, {}, list(meant))


class World:
    """Leaving with a clock to turn, and a Slurm that remembers what it was told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[tuple[str, Ending]] = []
        self.broken = False
        self.leaving = Leaving(self.end, lambda: self.now)

    async def end(self, owner: str, ending: Ending) -> None:
        if self.broken:
            raise Unavailable("no")
        self.told.append((owner, ending))

    async def phases(self, shown: list[Job]) -> list[Phase]:
        return [job.phase for job in await self.leaving.apply(shown)]


async def test_a_worker_is_told_twice_and_then_taken_for_gone() -> None:
    world, shown = World(), jobs(2, 2)
    await world.leaving.carry_out(shown, keys(1))
    assert await world.phases(shown) == [RUNNING, Phase.ENDING]
    world.now += 2 * GONE
    assert await world.phases(shown) == [RUNNING, Phase.ENDING], "the core asks again"
    await world.leaving.carry_out(shown, keys(1))
    world.now += GONE
    [_, gone] = await world.leaving.apply(shown)
    assert (gone.phase, gone.exit) == (Phase.EXITED, Exit.CANCELLED)
    await world.leaving.carry_out(shown, keys(1))
    assert [ending.signals for _, ending in world.told if ending.signals] == [{36: {"7": [0]}}] * 2


async def test_the_last_one_takes_the_job_along() -> None:
    world, shown = World(), jobs(3, 3)
    await world.leaving.carry_out(shown, keys(0))
    await world.leaving.carry_out(shown, keys(1))
    await world.leaving.carry_out(shown, keys(2))
    assert [ending.tasks for _, ending in world.told] == [{}, {}, {"7": [0]}]


async def test_who_shall_not_start_is_ended_when_the_job_does() -> None:
    world, waiting, running = World(), jobs(2, 2, QUEUED), jobs(2, 2)
    await world.leaving.carry_out(waiting, keys(1))
    assert await world.phases(waiting) == [QUEUED, QUEUED]
    world.broken = True
    assert await world.phases(running) == [RUNNING, RUNNING]
    world.broken = False
    assert await world.phases(running) == [RUNNING, Phase.ENDING]
    assert world.told[-1][1].signals == {36: {"7": [0]}}
    await world.leaving.carry_out(waiting, keys(0))
    assert world.told[-1][1].tasks == {"7": [0]}


async def test_one_owners_trouble_keeps_nobody_elses_workers() -> None:
    world = World()
    shown = jobs(1, 1) + jobs(1, 1, owner="bob")

    async def end(owner: str, ending: Ending) -> None:
        if owner == "alice":
            raise Unavailable("no")
        world.told.append((owner, ending))

    leaving = Leaving(end, lambda: 0.0)
    with pytest.raises(Unavailable):
        await leaving.carry_out(shown, keys(0) | keys(0, owner="bob"))
    assert world.told == [("bob", Ending(tasks={"7": [0]}))]


async def test_nothing_is_kept_of_those_that_are_over() -> None:
    world, shown = World(), jobs(2, 2)
    await world.leaving.carry_out(shown, keys(1))
    await world.leaving.apply([])
    assert await world.phases(shown) == [RUNNING, RUNNING], "another job by the same name"
