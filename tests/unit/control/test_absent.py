"""A backend that cannot submit for one cluster, and can for all others."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from penstock.model.cluster import ClusterSpec, Limits
from penstock.model.errors import Absent
from penstock.model.job import Batch, Role
from unit.control.test_control import GROUP, World, play


async def two_running(world: World) -> tuple[str, str]:
    """Two clusters of one backend, both running."""
    first = await world.running()
    spec = ClusterSpec("any", GROUP, {"cpu": GROUP}, Limits())
    other = await world.control.create(user="al", owner="alice", spec=spec, options={})
    await asyncio.sleep(2)
    world.name = other.name
    await world.hello()
    return first, other.name


def workers(world: World, cluster: str) -> int:
    return sum(job.batch.cluster == cluster for job in world.backend.alive()) - 1


def test_one_that_nobody_can_submit_for_waits_alone_and_writes_nothing() -> None:
    async def story(world: World) -> None:
        away, here = await two_running(world)
        refused = {away: "no notebook is connected"}
        world.backend.refuses = lambda cluster: refused.get(cluster, "")  # type: ignore[attr-defined]
        await world.control.scale(away, 3)
        await world.control.scale(here, 3)
        await asyncio.sleep(30)
        assert (workers(world, away), workers(world, here)) == (0, 3)
        assert sum(name == away for name, _ in world.store.journal) == 1  # its scheduler
        events = await world.control.events(away)
        assert [e.text for e in events if e.kind == "unavailable"] == ["no notebook is connected"]
        refused.clear()
        await asyncio.sleep(4)
        assert workers(world, away) == 3

    play(story)


def test_a_submission_that_nobody_could_make_holds_only_its_cluster_back() -> None:
    async def story(world: World) -> None:
        away, here = await two_running(world)
        submit, tries = world.backend.submit, []

        async def failing(batch: Batch) -> None:
            if batch.id.cluster == away and batch.role is Role.WORKER and len(tries) < 4:
                tries.append(asyncio.get_running_loop().time())
                raise Absent("the notebook could not submit: no credentials")
            await submit(batch)

        world.backend.submit = failing  # type: ignore[method-assign]
        await world.control.scale(away, 3)
        await asyncio.sleep(1)
        await world.control.scale(here, 2)
        await asyncio.sleep(2)
        assert (workers(world, away), workers(world, here)) == (0, 2)
        events = await world.control.events(away)
        assert "no credentials" in next(e.text for e in events if e.kind == "unavailable")
        await asyncio.sleep(120)
        assert workers(world, away) == 3
        pauses = [later - before for before, later in pairwise(tries)]
        assert pauses == sorted(pauses)
        assert pauses[-1] >= 4

    play(story)
