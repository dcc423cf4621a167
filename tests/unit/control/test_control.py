"""The core as the API uses it, against the fake batch system, in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import structlog

from penstock.backends.base import Capabilities
from penstock.backends.fake import FakeBackend
from penstock.control import Control
from penstock.model.cluster import BatchRow, Cluster, ClusterSpec, GroupSpec, Limits, Status
from penstock.model.errors import Conflict, Invalid, NotFound, StoreError
from penstock.model.ids import BatchId
from penstock.model.job import Exit, Phase, Role, Snapshot
from unit.control.memory_store import MemoryStore
from unit.control.virtual import run, wall

GATEWAY = "0123abcd"
ADDRESS = "tls://10.0.0.1:8786"
GROUP = GroupSpec(backend="fake", python="python")


class Channel:
    """A scheduler's end of its channel."""

    def __init__(self) -> None:
        self.got: list[Mapping[str, Any]] = []
        self.open = True

    def send(self, message: Mapping[str, Any]) -> None:
        self.got.append(message)

    def close(self) -> None:
        self.open = False


class Jumping(FakeBackend):
    """A batch system that lives on while this machine's clock jumps by ``skew`` seconds."""

    skew = 0.0

    async def observe(self) -> Snapshot:
        skew = self.skew
        snapshot = await super().observe()
        return replace(snapshot, started=snapshot.started + skew)


class World:
    """A store, a batch system, a server, and what one does with them."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.backend = Jumping(
            clock=wall, capabilities=Capabilities(max_batch=100, visibility=4.0, period=1.0)
        )
        self.routes: dict[str, tuple[str, int]] = {}
        self.control = self.server()
        self.channel = Channel()
        self.name = ""

    def clock(self) -> float:
        return wall() + self.backend.skew

    def server(self) -> Control:
        return Control(
            self.store,
            {"fake": self.backend},
            servers=["http://gateway"],
            agent_source=b"agent",
            clock=self.clock,
            on_route=self.route,
        )

    def route(self, name: str, address: tuple[str, int] | None) -> None:
        if address is None:
            self.routes.pop(name, None)
        else:
            self.routes[name] = address

    async def restart(self) -> None:
        await self.control.aclose()
        self.control = self.server()
        await self.control.start()

    async def create(self, **limits: Any) -> str:
        spec = ClusterSpec("any", GROUP, {"cpu": GROUP, "gpu": GROUP}, Limits(**limits))
        cluster = await self.control.create(user="al", owner="alice", spec=spec, options={"a": 1})
        self.name = cluster.name
        return cluster.name

    async def running(self, workers: int = 0, **limits: Any) -> str:
        await self.create(**limits)
        await asyncio.sleep(2)
        await self.hello()
        if workers:
            await self.control.scale(self.name, workers)
            await asyncio.sleep(2)
            await self.report(added=[f"w1-{index}" for index in range(workers)])
        return self.name

    async def hello(
        self, workers: list[str] | None = None, sequence: int | None = None
    ) -> dict[str, Any]:
        self.channel = Channel()
        hello = {"op": "hello", "protocol": 1, "scheduler_address": ADDRESS}
        message = {**hello, "sequence": sequence, "workers": workers or []}
        return await self.control.connected(self.name, message, self.channel)

    async def report(self, **more: Any) -> None:
        await self.control.message(self.name, self.channel, {"op": "report", "clients": 1, **more})

    def job(self, sequence: int) -> BatchId:
        return BatchId(GATEWAY, self.name, sequence)

    @property
    def cluster(self) -> Cluster:
        found = self.control.get(self.name)
        assert found is not None
        return found

    async def texts(self, kind: str | None = None) -> list[str]:
        events = await self.control.events(self.name)
        return [event.text for event in events if kind in (None, event.kind)]

    def store_rows(self) -> int:
        return sum(name == self.name for name, _ in self.store.journal)

    async def final(self) -> Cluster:
        await asyncio.sleep(60)
        assert self.cluster.status.final
        assert self.backend.alive() == []
        return self.cluster


Story = Callable[[World], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


def play(story: Story) -> World:
    async def main() -> World:
        world = World()
        await world.control.start()
        await story(world)
        await world.control.aclose()
        return world

    return run(main())


def test_a_life_from_creation_to_stop() -> None:
    async def story(world: World) -> None:
        name = await world.create()
        assert await world.control.scale(name, 3) == (3, None)
        waiting = asyncio.ensure_future(world.control.wait(name, 20.0))
        await asyncio.sleep(2)
        assert len(world.backend.alive()) == 1, "workers wait for their scheduler"
        welcome = await world.hello()
        assert welcome["op"] == "welcome"
        assert (await waiting) is world.cluster
        assert world.cluster.status is Status.RUNNING
        assert world.routes == {name: ("10.0.0.1", 8786)}
        await asyncio.sleep(2)
        assert len(world.backend.alive()) == 4
        await world.control.stop(name, "stopped by al")
        await world.control.stop(name, "again")
        assert world.channel.got[-1] == {"op": "close", "reason": "stopped by al"}
        assert (await world.final()).status is Status.STOPPED
        assert world.routes == {}
        assert await world.texts() == [
            "Created with profile any.",
            "Scaled to 3 workers of group cpu.",
            f"Its scheduler listens at {ADDRESS}.",
            "stopped by al",
            "All of its jobs have ended.",
        ]
        assert {line.group: line.workers for line in world.store.used} == {"": 1, "cpu": 3}

    play(story)


def test_the_user_reads_which_variables_are_not_passed_on() -> None:
    async def story(world: World) -> None:
        spec = ClusterSpec("any", GROUP, {"cpu": GROUP})
        options = {"env_dropped": ["LD_PRELOAD", "HOME"]}
        cluster = await world.control.create(user="al", owner="alice", spec=spec, options=options)
        world.name = cluster.name
        await asyncio.sleep(2)
        [text] = await world.texts("created")
        assert text.endswith("Not passed on, as the profile says: LD_PRELOAD, HOME.")

    play(story)


def test_an_older_scheduler_cannot_take_the_clusters_place() -> None:
    async def story(world: World) -> None:
        name = await world.create()
        await asyncio.sleep(2)
        with pytest.raises(Conflict, match="another scheduler by now"):
            await world.hello(sequence=7)
        assert world.cluster.status is Status.PENDING
        await world.hello(sequence=0)
        assert world.cluster.status is Status.RUNNING
        with pytest.raises(Conflict, match="another scheduler by now"):
            await world.hello(sequence=7)
        assert world.routes == {name: ("10.0.0.1", 8786)}

    play(story)


def test_a_refusal_fails_the_cluster_in_the_batch_systems_words() -> None:
    async def story(world: World) -> None:
        world.backend.faults.refuse = "sbatch: invalid partition 'cms'"
        await world.create()
        failed = await world.control.wait(world.name, 20.0)
        assert failed is not None
        assert failed.status is Status.FAILED
        assert failed.reason == (
            "fake refused the scheduler's job: sbatch: invalid partition 'cms'"
        )

    play(story)


@pytest.mark.parametrize("report", ["none", "before", "after"])
def test_a_dead_scheduler_fails_the_cluster_with_its_last_words(report: str) -> None:
    said = {"job": "s0-0", "code": 1, "reason": "", "tail": "ModuleNotFoundError: distributed\n"}

    async def story(world: World) -> None:
        await world.create()
        await asyncio.sleep(2)
        if report == "before":
            await world.control.exited(world.name, said)
            await asyncio.sleep(0.2)
            assert world.cluster.reason, "nothing waits for the next look"
        output = said["tail"] if report == "none" else ""
        world.backend.finish(world.job(0), 0, code=1, output=str(output))
        if report == "after":
            await asyncio.sleep(1.5)
            await world.control.exited(world.name, said)
        failed = await world.final()
        assert failed.status is Status.FAILED
        assert failed.reason == (
            "The scheduler exited 1. Its last output:\nModuleNotFoundError: distributed"
        )

    play(story)


def test_a_scheduler_that_closes_by_itself_failed_nobody() -> None:
    async def story(world: World) -> None:
        await world.running()
        world.backend.finish(world.job(0), 0, code=0)
        assert (await world.final()).status is Status.STOPPED
        assert world.cluster.reason == "The scheduler closed by itself."

    play(story)


def test_what_the_scheduler_says_when_it_closes_is_the_reason() -> None:
    async def story(world: World) -> None:
        await world.running()
        await world.control.message(
            world.name, world.channel, {"op": "closing", "reason": "idle\x1b[2J"}
        )
        assert (await world.final()).reason == "The scheduler closed: idle [2J"

    play(story)


def test_why_a_scheduler_was_told_to_end_is_for_its_batch_system_to_say() -> None:
    async def story(world: World) -> None:
        await world.running()
        for _ in range(3):
            await world.control.message(world.name, world.channel, {"op": "terminated"})
        await asyncio.sleep(100)
        assert world.cluster.status is Status.RUNNING
        world.backend.finish(world.job(0), 0, exit=Exit.PREEMPTED, code=0)
        assert (await world.final()).status is Status.FAILED
        assert "was preempted" in world.cluster.reason
        kinds = [event.kind for event in await world.control.events(world.name)]
        assert kinds.count("terminated") == 1

    play(story)


def test_neither_a_dropped_channel_nor_failing_looks_end_anything() -> None:
    async def story(world: World) -> None:
        await world.running(workers=2)
        world.backend.faults.blind = 1.0
        await world.control.disconnected(world.name, world.channel)
        await asyncio.sleep(5000)
        live = world.control.live(world.name)
        assert live is not None
        assert not live.connected
        assert world.cluster.status is Status.RUNNING
        world.backend.faults.blind = 0.0
        await asyncio.sleep(100)
        await world.hello(["w1-0", "w1-1"])
        await asyncio.sleep(100)
        assert world.cluster.status is Status.RUNNING
        assert len(world.backend.alive()) == 3
        assert len(world.backend.submitted) == 2

    play(story)


def test_absence_proves_nothing_for_the_clusters_that_a_look_is_unsure_about() -> None:
    async def story(world: World) -> None:
        first = await world.running(workers=2)
        second = await world.running(workers=2)
        world.backend.unsure.add(first)
        for name in (first, second):
            batch = BatchId(GATEWAY, name, 1)
            world.backend.finish(batch, 0, exit=Exit.LOST)
        await asyncio.sleep(300)
        assert len(world.backend.submitted) == 5, "only the second lost a worker for certain"
        world.name = first
        assert world.cluster.status is Status.RUNNING
        await world.control.stop(first, "enough")
        await asyncio.sleep(300)
        assert world.cluster.status is Status.STOPPING, "nobody knows whether it has ended"
        world.backend.unsure.clear()
        await asyncio.sleep(60)
        assert world.cluster.status is Status.STOPPED

    play(story)


def test_the_start_timeout_does_not_count_the_queue() -> None:
    async def story(world: World) -> None:
        world.backend.faults.queue_wait = 2000.0
        await world.create(start_timeout=30.0)
        await asyncio.sleep(1)
        starts = world.backend._batches[world.job(0)].lives[0].starts
        assert starts - wall() > 100
        await asyncio.sleep(starts - wall() + 25)
        assert world.cluster.status is Status.PENDING
        world.backend.say(world.job(0), 0, "no route to host\n")
        failed = await world.final()
        assert failed.reason == (
            "The scheduler's job ran for 30 s without reporting to the gateway (start_timeout). "
            "Its last output:\nno route to host"
        )

    play(story)


def test_a_worker_that_dies_is_replaced_and_the_user_reads_why() -> None:
    async def story(world: World) -> None:
        await world.running(workers=2)
        report = {"job": "w1-1", "code": 137, "reason": "out of memory", "tail": ""}
        await world.control.exited(world.name, report)
        world.backend.finish(world.job(1), 1, code=137)
        await asyncio.sleep(3)
        await world.control.exited(world.name, report)
        await asyncio.sleep(3)
        assert len(world.backend.alive()) == 3
        assert await world.texts("worker-exit") == [
            "worker w1-1 exited 137: out of memory, replaced"
        ]

    play(story)


def test_events_of_wishes_say_worker_or_workers() -> None:
    async def story(world: World) -> None:
        await world.running(workers=1)
        await world.control.scale(world.name, 2)
        await world.control.adapt(world.name, active=True, maximum=1)
        await world.control.adapt(world.name, active=True, minimum=1)
        assert await world.texts("scaled") == [
            "Scaled to 1 worker of group cpu.",
            "Scaled to 2 workers of group cpu.",
        ]
        assert await world.texts("adapts") == [
            "Adapts to the load with 0 to 1 worker of group cpu.",
            "Adapts to the load with at least 1 worker of group cpu.",
        ]

    play(story)


def test_workers_that_never_serve_stop_their_group_and_leave_the_cluster_alive() -> None:
    async def story(world: World) -> None:
        await world.running(worker_tries=3)
        world.backend.faults.dies, world.backend.faults.dies_within = 1.0, 1.0
        await world.control.scale(world.name, 1)
        await asyncio.sleep(2000)
        assert len(world.backend.submitted) == 1 + 3
        assert world.cluster.status is Status.RUNNING
        stopped = world.cluster.scaling["cpu"].stopped
        assert stopped == (
            "No more workers of group cpu are started: 3 in a row ended before they served. "
            "The last: worker w3-0 exited 1"
        )
        assert await world.texts("group-stopped") == [stopped]
        await world.restart()
        await asyncio.sleep(100)
        assert len(world.backend.submitted) == 1 + 3, "nor does a restart try again"
        world.backend.faults.dies = 0.0
        await world.control.scale(world.name, 2)
        await world.hello()
        await asyncio.sleep(10)
        assert len(world.backend.alive()) == 3

    play(story)


def test_a_worker_that_serves_after_all_revives_its_group() -> None:
    async def story(world: World) -> None:
        await world.running(worker_tries=3)
        await world.control.scale(world.name, 6)
        await asyncio.sleep(2)
        for index in range(3):
            world.backend.finish(world.job(1), index, code=1)
        await asyncio.sleep(3)
        assert world.cluster.scaling["cpu"].stopped
        await world.report(added=["w1-4"])
        await asyncio.sleep(20)
        assert not world.cluster.scaling["cpu"].stopped
        assert len(world.backend.alive()) == 7

    play(story)


def test_refused_workers_stop_their_group_too() -> None:
    async def story(world: World) -> None:
        await world.running(worker_tries=2)
        world.backend.faults.refuse = "too many jobs"
        await world.control.scale(world.name, 4)
        await asyncio.sleep(300)
        assert world.cluster.status is Status.RUNNING
        assert await world.texts("rejected") == ["fake refused 4 workers: too many jobs"] * 2
        assert world.cluster.scaling["cpu"].stopped.endswith("The last: too many jobs")

    play(story)


def test_a_silent_worker_is_replaced() -> None:
    async def story(world: World) -> None:
        await world.running(worker_start_timeout=50.0)
        await world.control.scale(world.name, 2)
        await asyncio.sleep(5)
        await world.report(added=["w1-0"])
        await asyncio.sleep(100)
        assert (await world.texts("worker-exit"))[0] == (
            "worker w1-1 ran for 50 s without reaching the scheduler, replaced"
        )
        alive = {(job.batch.sequence, job.index) for job in world.backend.alive()}
        assert {(0, 0), (1, 0)} < alive
        assert (1, 1) not in alive

    play(story)


def test_an_outage_is_told_once_and_survived() -> None:
    async def story(world: World) -> None:
        world.backend.faults.unavailable = 1.0
        names = [await world.create() for _ in range(3)]
        await asyncio.sleep(600)
        for world.name in names:
            assert world.cluster.status is Status.PENDING
            assert await world.texts("unavailable") == [
                "fake is not available, will try again: fake: connection refused"
            ]
        assert len(world.store.journal) < 60, "the backend is asked, not besieged"
        world.backend.faults.unavailable = 0.0
        await asyncio.sleep(70)
        assert len(world.backend.alive()) == 3

    play(story)


def test_a_lost_reply_is_settled_by_looking() -> None:
    async def story(world: World) -> None:
        world.backend.faults.lost_reply = 1.0
        await world.create()
        await asyncio.sleep(60)
        assert len(world.backend.submitted) == 1
        world.backend.faults.lost_reply, world.backend.faults.lost_request = 0.0, 1.0
        await world.create()
        await asyncio.sleep(4)
        world.backend.faults.lost_request = 0.0
        await asyncio.sleep(60)
        assert len(world.backend.submitted) == 2
        assert await world.texts("lost") == [
            "The scheduler's job was never seen in fake; it is submitted again."
        ]

    play(story)


def test_a_wall_clock_that_jumps_changes_nothing() -> None:
    async def story(world: World) -> None:
        await world.running(workers=2, max_lifetime=5000.0, worker_start_timeout=60.0)
        for skew in (100_000.0, -100_000.0):
            world.backend.skew = skew
            await asyncio.sleep(100)
        world.backend.faults.late = 1.0
        await world.control.scale(world.name, 4)
        world.backend.skew = 50_000.0
        await asyncio.sleep(20)
        await world.report(added=["w2-0", "w2-1"])
        await asyncio.sleep(200)
        assert world.cluster.status is Status.RUNNING
        assert len(world.backend.alive()) == 5
        assert len(world.backend.submitted) == 3

    play(story)


def test_a_restart_is_no_special_case() -> None:
    async def story(world: World) -> None:
        await world.running(workers=3)
        world.routes.clear()
        await world.restart()
        assert world.routes == {world.name: ("10.0.0.1", 8786)}
        await world.control.ready()
        await world.hello([f"w1-{index}" for index in range(3)])
        await world.control.scale(world.name, 5)
        await asyncio.sleep(10)
        assert len(world.backend.alive()) == 6
        assert [batch.sequence for batch in world.backend.submitted] == [0, 1, 2]
        await world.control.stop(world.name, "enough")
        await world.restart()
        assert (await world.final()).reason == "enough"

    play(story)


def test_a_backend_that_is_not_configured_any_more_loses_no_cluster() -> None:
    async def story(world: World) -> None:
        await world.running(workers=1)
        await world.control.aclose()
        without = Control(
            world.store, {}, servers=[], agent_source=b"", clock=world.clock, on_route=world.route
        )
        await without.start()
        await without.stop_all("drained")
        await asyncio.sleep(100)
        found = without.get(world.name)
        assert found is not None
        assert found.status is Status.RUNNING
        events = await without.events(world.name)
        assert events[-1].text == "Nothing is done: the gateway has no backend fake any more."
        await without.aclose()
        world.control = world.server()
        await world.control.start()
        await world.control.stop(world.name, "enough")
        await world.final()

    play(story)


def test_scaling_down_retires_and_reports_what_could_not_be_moved() -> None:
    async def story(world: World) -> None:
        await world.running(workers=4)
        await world.control.scale(world.name, 3)
        await asyncio.sleep(1)
        request = world.channel.got[-1]
        assert (request["op"], request["count"], len(request["names"])) == ("retire", 1, 4)
        reply = {"op": "retired", "id": request["id"], "names": ["w1-2"], "error": None}
        await world.control.message(world.name, world.channel, reply)
        await asyncio.sleep(3)
        assert {job.index for job in world.backend.alive() if job.batch.sequence} == {0, 1, 3}
        await world.control.scale(world.name, 1)
        await asyncio.sleep(1)
        request = world.channel.got[-1]
        reply = {"op": "retired", "id": request["id"], "names": [], "error": "no memory left"}
        await world.control.message(world.name, world.channel, reply)
        await asyncio.sleep(3)
        assert len(world.backend.alive()) == 2
        assert await world.texts("not-retired") == [
            "2 workers were ended without moving their data away: no memory left"
        ]
        assert await world.texts("worker-exit") == []

    play(story)


def test_an_adaptive_cluster_follows_its_scheduler() -> None:
    async def story(world: World) -> None:
        await world.running(max_workers=6)
        limited = await world.control.adapt(world.name, active=True, minimum=1, maximum=9)
        assert limited is not None
        assert world.channel.got[-1] == {"op": "adapt", "active": True, "minimum": 1, "maximum": 6}
        await asyncio.sleep(2)
        assert len(world.backend.alive()) == 2
        await world.report(target=100)
        await asyncio.sleep(2)
        assert len(world.backend.alive()) == 7
        with pytest.raises(Conflict, match="cpu does already"):
            await world.control.adapt(world.name, active=True, group="gpu")
        await world.control.adapt(world.name, active=False)
        assert world.cluster.scaling["cpu"].count == 6
        await asyncio.sleep(10)
        assert len(world.backend.alive()) == 7

    play(story)


def test_limits_of_time_end_clusters() -> None:
    async def story(world: World) -> None:
        await world.running(idle_timeout=60.0)
        for tasks in ({"queued": 3}, {"unrunnable": 1}, {"processing": 1}):
            await world.report(idle=500.0, tasks=tasks)
            await asyncio.sleep(100)
            assert world.cluster.status is Status.RUNNING
        await world.report(idle=10.0, tasks={"memory": 5})
        await asyncio.sleep(45)
        assert world.cluster.status is Status.RUNNING
        await asyncio.sleep(10)
        assert world.cluster.reason == "The cluster had no tasks for 60 s (idle_timeout)."
        await world.running(no_client_timeout=30.0)
        await world.report(clients=0)
        await asyncio.sleep(20)
        await world.report(clients=1)
        await asyncio.sleep(100)
        assert world.cluster.status is Status.RUNNING
        await world.report(clients=0)
        await asyncio.sleep(40)
        assert world.cluster.reason.startswith("No client was connected for 30 s")
        await world.create(max_lifetime=100.0)
        await asyncio.sleep(50)
        await world.restart()
        await asyncio.sleep(49)
        assert world.cluster.status is Status.PENDING
        await asyncio.sleep(2)
        assert "maximum lifetime of 100 s" in world.cluster.reason

    play(story)


def test_requests_that_make_no_sense_change_nothing() -> None:
    async def story(world: World) -> None:
        name = await world.running()
        control = world.control
        before = world.cluster
        for wrong in (-1, 10**9):
            with pytest.raises(Invalid):
                await control.scale(name, wrong)
        with pytest.raises(Invalid, match="cpu, gpu"):
            await control.scale(name, 1, "tpu")
        with pytest.raises(Invalid, match="must not be below"):
            await control.adapt(name, active=True, minimum=3, maximum=2)
        with pytest.raises(NotFound):
            await control.scale("0" * 32, 1)
        for job in ("s1-0", "w0-0", "s0-1", "w7-0", "", "../x", "s-1-0"):
            with pytest.raises(NotFound):
                await control.logs(name, job, 100)
        assert world.cluster is before
        await control.stop(name, "enough")
        with pytest.raises(Conflict, match="is stopping"):
            await control.scale(name, 1)
        await world.final()
        with pytest.raises(Conflict, match=r"is stopped, so it cannot be scaled\. enough"):
            await control.adapt(name, active=True)
        with pytest.raises(Conflict, match="has ended"):
            await world.hello()

    play(story)


def test_workers_that_others_bring_are_seen_and_not_scaled() -> None:
    async def story(world: World) -> None:
        spec = ClusterSpec("htc", GROUP)
        cluster = await world.control.create(user="al", owner="alice", spec=spec, options={})
        world.name = cluster.name
        await asyncio.sleep(2)
        await world.hello(workers=["htcdask-worker_1_0"])
        await world.report(workers=2, threads=8, added=["htcdask-worker_1_1", "w1-0"])
        live = world.control.live(cluster.name)
        assert live is not None
        assert (live.workers, live.threads) == (2, 8)
        granted, words = await world.control.scale(cluster.name, 3)
        assert (granted, words) == (0, await world.control.adapt(cluster.name, active=True))
        assert words is not None
        assert "brought by its users" in words
        assert await world.control.adapt(cluster.name, active=False) is None
        assert [text.partition(";")[0] for text in await world.texts("external")] == [
            "Asked for 3 workers",
            "Asked to adapt",
        ]
        await asyncio.sleep(5)
        assert len(world.backend.alive()) == 1
        assert world.cluster.status is Status.RUNNING
        await world.control.stop(cluster.name, "enough")
        await world.final()

    play(story)


def test_agents_are_believed_about_their_own_cluster_only() -> None:
    async def story(world: World) -> None:
        await world.running(workers=2)
        victim, channel = world.name, world.channel
        await world.running(workers=2)
        for message in (
            {"op": "retired", "id": 1, "names": ["w0-0", "w9-9", "w1-77", "s0-0", "x", 3]},
            {"op": "report", "added": ["w0-0", "w1-99"], "removed": ["w8-1"]},
            {"op": "unheard of"},
        ):
            await world.control.message(world.name, world.channel, message)
            await world.control.message(victim, world.channel, {"op": "closing"})
        for report in ("s1-0", "w0-0", "w1-99", "w5-0"):
            await world.control.exited(world.name, {"job": report, "code": 1})
        await asyncio.sleep(60)
        assert len(world.backend.alive()) == 6
        for wrong in ({"op": "report", "workers": -1}, {"op": 7}, {"op": "report", "idle": "x"}):
            with pytest.raises(Invalid):
                await world.control.message(victim, channel, wrong)
        with pytest.raises(Invalid):
            await world.control.exited(victim, {"job": "../../etc/passwd"})

    play(story)


def test_a_newer_channel_replaces_an_older_one() -> None:
    async def story(world: World) -> None:
        await world.running()
        old = world.channel
        await world.hello()
        assert not old.open
        await world.control.disconnected(world.name, old)
        await world.control.message(world.name, old, {"op": "closing"})
        await asyncio.sleep(5)
        assert world.cluster.status is Status.RUNNING
        await world.control.scale(world.name, 1)
        assert world.channel.got[-1] == {"op": "scale", "count": 1}

    play(story)


def test_a_broken_database_loses_nothing() -> None:
    async def story(world: World) -> None:
        await world.running(workers=1)
        world.store.broken = "The database is full."
        with pytest.raises(StoreError, match="full"):
            await world.create()
        with pytest.raises(StoreError):
            await world.control.scale(world.name, 3)
        assert world.cluster.scaling["cpu"].count == 1, "no answer promised what is not written"
        world.backend.finish(world.job(1), 0, code=1)
        await asyncio.sleep(40)
        assert len(world.backend.submitted) == 2, "nothing is submitted that is not written"
        world.store.broken = ""
        await asyncio.sleep(20)
        assert len(world.backend.alive()) == 2
        assert await world.texts("worker-exit") == ["worker w1-0 exited 1, replaced"]

    play(story)


def test_a_drain_returns_when_nothing_runs() -> None:
    async def story(world: World) -> None:
        for _ in range(3):
            await world.running(workers=2)
        world.backend.faults.cancel_time = 20.0
        await world.control.stop_all("drained")
        assert world.backend.alive() == []
        assert world.control.list() == []
        ended = world.control.list(statuses=[Status.STOPPED], user="al")
        assert [cluster.reason for cluster in ended] == ["drained"] * 3

    play(story)


def test_forged_jobs_neither_count_nor_are_touched() -> None:
    async def story(world: World) -> None:
        await world.running(workers=1)
        mine = next(job for job in world.backend.alive() if job.batch.sequence == 1)
        forged = replace(mine, owner="mallory", native="evil", index=0)
        stranger = replace(forged, batch=BatchId("ffffffff", world.name, 1), native="other")
        world.backend.forge(forged)
        world.backend.forge(stranger)
        world.backend.finish(mine.batch, 0, exit=Exit.LOST)
        await asyncio.sleep(30)
        assert len(world.backend.alive()) == 2, "the real one is replaced"
        await world.control.stop(world.name, "enough")
        await world.final()
        assert world.backend._foreign == [forged, stranger]

    play(story)


def waiting(world: World) -> int:
    return sum(job.phase is Phase.QUEUED for job in world.backend.alive())


def capped(world: World, places: int) -> None:
    world.backend.capabilities = replace(world.backend.capabilities, max_queued=places)


def test_what_the_queue_has_no_room_for_is_submitted_as_jobs_start() -> None:
    async def story(world: World) -> None:
        capped(world, 40)
        await world.running()
        world.backend.faults.queue_wait = 1e9
        await world.control.scale(world.name, 100)
        await asyncio.sleep(60)
        assert waiting(world) == 40
        assert await world.texts("queue-limit") == [
            "60 of 100 workers wait for the site's limit of 40 queued jobs"
        ]
        for index in range(15):
            world.backend.run(world.job(1), index)
            await asyncio.sleep(0.3)
        await asyncio.sleep(5)
        assert (waiting(world), len(world.backend.alive())) == (40, 56)
        await world.control.scale(world.name, 56)
        await asyncio.sleep(5)
        assert len(world.backend.alive()) == 56, "the other wish was one more"
        await world.control.scale(world.name, 20)
        await asyncio.sleep(5)
        assert len(world.backend.alive()) == 21
        assert len(await world.texts("queue-limit")) == 2

    play(story)


def test_an_owners_clusters_share_the_queue_and_schedulers_come_first() -> None:
    async def story(world: World) -> None:
        capped(world, 10)
        first = await world.running()
        world.backend.faults.queue_wait = 1e9
        await world.control.scale(first, 50)
        await asyncio.sleep(5)
        assert waiting(world) == 10
        second = await world.create()
        await asyncio.sleep(5)
        assert await world.texts("queue-limit") == [
            "The scheduler waits for the site's limit of 10 queued jobs"
        ]
        world.backend.run(BatchId(GATEWAY, first, 1), 0)
        await asyncio.sleep(3)
        assert BatchId(GATEWAY, second, 0) in world.backend.submitted
        world.backend.run(BatchId(GATEWAY, second, 0), 0)
        await asyncio.sleep(3)
        await world.hello()
        await world.control.scale(second, 50)
        for index in range(1, 7):
            world.backend.run(BatchId(GATEWAY, first, 1), index)
            await asyncio.sleep(3)
        mine = [j for j in world.backend.alive() if j.batch.cluster == second and j.batch.sequence]
        assert waiting(world) == 10
        assert len(mine) == 5, "who has less gets what becomes free"

    play(story)


def test_clusters_that_ask_at_once_do_not_overrun_the_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(world: World) -> None:
        names = [await world.running() for _ in range(6)]
        add_row = world.store.add_row

        async def slow(row: BatchRow) -> None:
            await asyncio.sleep(0.1)  # others plan meanwhile
            await add_row(row)

        monkeypatch.setattr(world.store, "add_row", slow)
        capped(world, 12)
        world.backend.faults.queue_wait = 1e9
        await world.control.scale(names[0], 20)
        await asyncio.sleep(0.05)
        await asyncio.gather(*(world.control.scale(name, 20) for name in names[1:]))
        for _ in range(20):
            await asyncio.sleep(0.5)
            assert waiting(world) <= 12
        assert waiting(world) == 12

    play(story)


def test_a_full_queue_takes_what_fits_and_kills_nobody() -> None:
    async def story(world: World) -> None:
        await world.running()
        world.backend.faults.places = 40
        world.backend.faults.queue_wait = 1e9
        await world.control.scale(world.name, 100)
        await asyncio.sleep(5)
        assert waiting(world) == 40
        assert 8 <= world.store_rows() <= 16, "found by halves"
        for _ in range(2):
            await asyncio.sleep(1800)
            assert world.store_rows() <= 40, "a full queue is left alone"
        other = await world.create()
        await asyncio.sleep(5)
        assert world.cluster.status is Status.PENDING
        said = "until fake takes more jobs: fake: job submit limit"
        assert (await world.texts("queue-limit"))[-1] == f"The scheduler waits {said}"
        world.name = next(c.name for c in world.control.list() if c.name != other)
        assert f"60 of 100 workers wait {said}" in await world.texts("queue-limit")
        assert len(await world.texts("queue-limit")) <= 3
        world.backend.faults.places = 1000
        world.backend.run(next(j.batch for j in world.backend.alive() if j.batch.sequence), 0)
        await asyncio.sleep(330)
        assert len(world.backend.alive()) == 102
        assert not world.cluster.scaling["cpu"].stopped

    play(story)


def test_the_targets_ups_and_downs_cost_no_place_in_the_queue() -> None:
    async def story(world: World) -> None:
        await world.running()
        world.backend.faults.queue_wait = 1e9
        await world.control.adapt(world.name, active=True, minimum=0, maximum=20)
        for _ in range(60):
            for target in (10, 3, 7, 0):
                await world.report(target=target)
                await asyncio.sleep(20)
        assert len(world.backend.submitted) == 2, "one batch of ten, an hour and more"
        assert len(world.backend.alive()) == 11
        for index in range(6):
            world.backend.run(world.job(1), index)
        names = [f"w1-{index}" for index in range(6)]
        await world.report(target=4, added=names)
        await asyncio.sleep(5)
        assert world.channel.got[-1]["op"] == "retire", "who runs and is not needed goes at once"
        assert world.channel.got[-1]["count"] == 2
        id = world.channel.got[-1]["id"]
        answer = {"op": "retired", "id": id, "names": names[:2]}
        await world.control.message(world.name, world.channel, answer)
        await asyncio.sleep(200)
        assert waiting(world) == 4
        await asyncio.sleep(120)
        assert waiting(world) == 0, "and who waits, after a while"
        await world.report(target=9)
        await asyncio.sleep(5)
        assert waiting(world) == 5
        await world.control.scale(world.name, 4)
        await asyncio.sleep(5)
        assert waiting(world) == 0, "a user's own word counts at once"

    play(story)


def test_a_scheduler_that_reaches_its_time_limit_has_warned_and_says_so() -> None:
    async def story(world: World) -> None:
        world.backend.limits[Role.SCHEDULER] = 3600.0
        await world.running()
        await asyncio.sleep(3200)
        assert await world.texts("scheduler-limit") == []
        await asyncio.sleep(100)
        [text] = await world.texts("scheduler-limit")
        assert text.startswith("The scheduler's job reaches its time limit at ")
        assert text.endswith(", and then the cluster ends: save what you need.")
        await asyncio.sleep(310)
        assert (await world.final()).status is Status.FAILED
        assert world.cluster.reason == (
            "The scheduler's job reached its time limit, and the cluster ended with it."
        )

    play(story)


def test_workers_that_are_preempted_are_no_failure_and_replaced_at_once() -> None:
    async def story(world: World) -> None:
        await world.running(workers=3, worker_tries=1)
        for sequence in range(1, 12):
            await world.report(added=[f"w{sequence}-0"])
            world.backend.finish(world.job(sequence), 0, exit=Exit.PREEMPTED, code=143)
            await asyncio.sleep(3)
            assert len(world.backend.alive()) == 4
        assert not world.cluster.scaling["cpu"].stopped
        # Who never served is tried again, too, but not in a loop without a pause.
        for _ in range(20):
            world.backend.finish(world.backend.submitted[-1], 0, exit=Exit.PREEMPTED, code=143)
            await asyncio.sleep(3)
        assert len(world.backend.submitted) < 22
        assert not world.cluster.scaling["cpu"].stopped

    play(story)


def test_a_node_that_takes_many_workers_with_it_is_one_failure() -> None:
    async def story(world: World) -> None:
        await world.running(worker_tries=3)
        await world.control.scale(world.name, 20)
        await asyncio.sleep(2)
        for index in range(12):
            world.backend.finish(world.job(1), index, exit=Exit.LOST)
        await asyncio.sleep(30)
        assert not world.cluster.scaling["cpu"].stopped
        assert len(world.backend.alive()) == 21
        for sequence in (2, 3):
            world.backend.finish(world.job(sequence), 0, exit=Exit.LOST)
            await asyncio.sleep(30)
        assert "3 in a row ended" in world.cluster.scaling["cpu"].stopped

    play(story)


def test_waiting_jobs_say_why() -> None:
    async def story(world: World) -> None:
        world.backend.faults.queue_wait = 1e6
        await world.create()
        await asyncio.sleep(1)
        world.backend.hold(world.job(0), 0, "user limit reached")
        await asyncio.sleep(300)
        assert await world.texts("waiting") == ["the scheduler is held in fake: user limit reached"]
        world.backend.run(world.job(0), 0)
        await asyncio.sleep(2)
        assert world.backend.alive()[0].phase is Phase.RUNNING

    play(story)


def test_every_line_about_a_cluster_says_whose_and_no_line_a_secret() -> None:
    lines: list[dict[str, Any]] = []

    def capture(_logger: object, _name: str, event: dict[str, Any]) -> Any:
        lines.append(dict(event))
        raise structlog.DropEvent

    async def story(world: World) -> None:
        await world.running(workers=2)
        world.backend.finish(world.job(1), 0, code=1)
        await asyncio.sleep(5)
        world.backend.finish(world.job(0), 0, code=1)
        cluster = await world.final()
        assert len(lines) >= 5
        text = repr(lines)
        for secret in (cluster.token, cluster.tls_key, "PRIVATE KEY"):
            assert secret not in text
        for line in lines:
            if "cluster" in line:
                assert line["user"] == "al"

    structlog.configure(
        processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(0)
    )
    play(story)
