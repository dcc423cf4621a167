"""Clusters whose notebook is away, with the real core in virtual time: stopped, or let be."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from penstock.api.relay import watch_notebooks
from penstock.backends.base import Capabilities
from penstock.backends.fake import FakeBackend
from penstock.backends.relay.backend import RelayBackend
from penstock.control import Control
from penstock.control.tasks import end_tasks
from penstock.model.cluster import Cluster, ClusterSpec, GroupSpec, Limits, Status
from rigs.relay import Notebook
from unit.control.memory_store import MemoryStore
from unit.control.test_control import ADDRESS, GATEWAY, Channel
from unit.control.virtual import run, wall

SPEC = ClusterSpec(
    "any",
    GroupSpec(backend="fake", python="python"),
    {"w": GroupSpec(backend="notebook", python="python")},
    Limits(worker_start_timeout=86400.0),
)


class World:
    """A gateway with schedulers of its own and workers of notebooks; servers come and go."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "notebook.json"
        self.store = MemoryStore()
        quick = Capabilities(visibility=4.0, period=1.0)
        self.own = FakeBackend(clock=wall, capabilities=quick)
        self.pool = FakeBackend(clock=wall, capabilities=quick)
        self.tasks: list[asyncio.Task[None]] = []

    async def serve(self) -> None:
        clock = asyncio.get_running_loop().time
        self.relay = RelayBackend(
            "notebook", GATEWAY, self.file, period=1.0, visibility=4.0, grace=60.0,
            wall=wall, clock=clock,
        )  # fmt: skip
        backends = {"fake": self.own, "notebook": self.relay}
        self.control = Control(
            self.store, backends, servers=["http://gateway"], agent_source=b"", clock=wall
        )
        await self.control.start()
        self.tasks = [asyncio.ensure_future(watch_notebooks(self.control))]

    async def end(self) -> None:
        await end_tasks(self.tasks)
        await self.control.aclose()
        await self.relay.aclose()

    async def cluster(self) -> str:
        """One with two workers that its notebook submitted."""
        made = await self.control.create(user="al", owner="alice", spec=SPEC, options={})
        await asyncio.sleep(2)
        hello = {"op": "hello", "protocol": 1, "scheduler_address": ADDRESS, "workers": []}
        await self.control.connected(made.name, hello, Channel())
        self.notebook = Notebook(self.pool, GATEWAY, made.name, "jovyan")
        self.relay.attach(made.name, "alice", self.notebook.holder)
        await self.control.scale(made.name, 2)
        await asyncio.sleep(5)
        assert len(self.pool.alive()) == 2
        return made.name

    def found(self, name: str) -> Cluster:
        cluster = self.control.get(name)
        assert cluster is not None
        return cluster


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_one_that_is_cut_off_is_stopped_after_the_grace(world: World) -> None:
    async def story() -> None:
        await world.serve()
        name = await world.cluster()
        world.relay.detach(name, world.notebook.holder)
        await asyncio.sleep(50)
        assert world.found(name).status is Status.RUNNING
        await asyncio.sleep(30)
        assert world.found(name).status is Status.STOPPED
        assert "away for 60 s" in world.found(name).reason
        assert world.relay.clusters == []
        await world.end()

    run(story())


def test_one_that_left_its_jobs_on_purpose_lives_on_over_a_restart(world: World) -> None:
    async def story() -> None:
        await world.serve()
        name = await world.cluster()
        world.relay.detach(name, world.notebook.holder, keep=True)
        await asyncio.sleep(300)
        await world.end()
        await world.serve()
        await asyncio.sleep(300)
        assert world.found(name).status is Status.RUNNING
        assert len(world.pool.alive()) == 2
        texts = [event.text for event in await world.control.events(name)]
        assert not [text for text in texts if "replaced" in text or "never seen" in text]
        again = Notebook(world.pool, GATEWAY, name, "jovyan")
        world.relay.attach(name, "alice", again.holder)
        await world.control.scale(name, 3)
        await asyncio.sleep(5)
        assert len(world.pool.alive()) == 3
        await world.end()

    run(story())


def test_one_that_was_there_before_a_restart_is_waited_for_and_then_stopped(world: World) -> None:
    async def story() -> None:
        await world.serve()
        name = await world.cluster()
        await world.end()
        await world.serve()
        await asyncio.sleep(50)
        assert world.found(name).status is Status.RUNNING
        await asyncio.sleep(40)
        assert world.found(name).status is Status.STOPPED
        await world.end()

    run(story())


def test_a_drain_waits_for_no_notebook(world: World) -> None:
    """As ``penstock stop --clusters`` does without a server, where none can connect."""

    async def story() -> None:
        await world.serve()
        name = await world.cluster()
        world.relay.detach(name, world.notebook.holder, keep=True)
        await world.end()
        await world.serve()
        await asyncio.wait_for(world.control.stop_all("drained"), 60)
        assert world.found(name).status is Status.STOPPED
        await world.end()

    run(story())


def test_a_notebook_that_is_back_too_late_is_told_and_ends_what_is_left(world: World) -> None:
    async def story() -> None:
        await world.serve()
        name = await world.cluster()
        world.relay.detach(name, world.notebook.holder)
        await asyncio.sleep(90)
        assert world.found(name).status is Status.STOPPED
        assert len(world.pool.alive()) == 2
        assert await world.notebook.hands.clear(10)
        assert world.pool.alive() == []
        await world.end()

    run(story())
