"""Penstock's core against a hostile world, in virtual time.

One store and one batch system outlive many servers, each of which is the real ``Control`` and is
killed at some step: before or after any write, any submission, any cancel, any look. Replies get
lost, jobs show up late, listings are partial, jobs die, writes fail, channels drop. Then the storm
ends, and everything must come to what was wished for. What may never happen, not even for a moment,
is checked when it would: see ``Batches``.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import Any
from unittest import mock

from penstock.backends.base import Capabilities
from penstock.backends.fake import NEVER, FakeBackend, Faults
from penstock.control import Control, control
from penstock.control.plan import LOST
from penstock.control.situate import RETIRE_LIMIT
from penstock.control.walltime import margin
from penstock.model.cluster import Cluster, ClusterSpec, GroupSpec, Limits, RowState, Status
from penstock.model.errors import PenstockError, StoreError
from penstock.model.ids import BatchId
from penstock.model.job import Batch, Exit, Job, Phase, Role
from unit.control.memory_store import MemoryStore
from unit.control.virtual import run, wall

STORM = 120.0
CALM = 420.0
VISIBILITY = 8.0
START_TIMEOUT = 25.0
TRIES = 10_000
PATIENCE = 10.0
GROUP = "cpu"


class Batches(FakeBackend):
    """The batch system, with a witness who compares it with the journal at every step."""

    def __init__(self, sim: Simulation) -> None:
        super().__init__(
            clock=wall,
            rng=sim.rng,
            capabilities=Capabilities(
                max_batch=4, visibility=VISIBILITY, period=4.0, max_queued=sim.cap
            ),
            forget_after=sim.rng.choice((0.0, 10.0, 60.0)),
        )
        self.sim = sim
        if sim.limit is not None:
            self.limits[Role.WORKER] = sim.limit

    def heal(self) -> None:
        """Who was to die later lives on."""
        now = wall()
        for accepted in self._batches.values():
            for life in accepted.lives:
                if life.ends > now and life.limit is None:
                    life.ends = life.gone = NEVER

    def prolong(self) -> None:
        """An admin takes all limits of time away."""
        self.limits.clear()
        now = wall()
        for accepted in self._batches.values():
            for life in accepted.lives:
                if life.ends > now:
                    life.limit, life.ends, life.gone = None, NEVER, NEVER
                    life.job = replace(life.job, phase=Phase.UNKNOWN)  # as_it_is makes it anew

    def _accept(self, batch: Batch, delay: float) -> None:
        sim = self.sim
        sim.check(batch.id not in self.submitted, f"{batch.id.tag} was submitted twice")
        row = sim.store.journal.get((batch.id.cluster, batch.id.sequence))
        sim.check(row is not None, f"{batch.id.tag} was submitted without an intent")
        super()._accept(batch, delay)
        wish = 1 if batch.role is Role.SCHEDULER else sim.most.get(batch.id.cluster, 0)
        counted = [j for j in self.alive() if sim.counts(j, batch.role)]
        mine = [j for j in counted if j.batch.cluster == batch.id.cluster]
        if sim.cap is not None:
            # What the looks do not show yet, or still show, may be one look old.
            queued = sum(sim.waits(job) for job in self.alive())
            sim.check(queued <= sim.cap, f"{queued} jobs wait where {sim.cap} may")
        if sim.limit is not None and not self.limits:
            return  # asked for when it was right: then those who left were told to stay
        sim.check(len(mine) <= wish, f"{len(mine)} {batch.role.value}s where {wish} were wished")

    async def cancel(self, jobs: Collection[Job]) -> None:
        for job in jobs:
            self.sim.check(job.owner == "alice", "another user's job was cancelled")
            row = self.sim.store.journal.get((job.batch.cluster, job.batch.sequence))
            wanted = row is not None and job.index in row.wanted
            self.sim.check(not wanted, "a job was cancelled that the journal wants")
        await super().cancel(jobs)


class Session:
    """One server's connections to store and batch system; a killed server's do nothing any more."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.dead = False
        self.name = sim.backend.name
        self.capabilities = sim.backend.capabilities

    async def step(self, effect: Callable[[], Awaitable[Any]]) -> Any:
        """Something outside happens, or not, and the server lives to hear of it, or not."""
        await self.point()
        result = await effect()
        await self.point()
        return result

    async def point(self) -> None:
        if not self.dead and self.sim.storm and self.sim.rng.random() < self.sim.deadliness:
            self.dead = True
            self.sim.killed.set()
        if self.dead:
            await asyncio.get_running_loop().create_future()

    async def write(self, effect: Callable[[], Awaitable[Any]]) -> Any:
        self.sim.check(len(self.sim.store.journal) < 1000, "the journal is flooded")
        if self.sim.storm and self.sim.rng.random() < 0.03:
            raise StoreError("database is locked")
        return await self.step(effect)

    def __getattr__(self, name: str) -> Any:
        store = getattr(self.sim.store, name)
        writes = name.startswith(("add_", "save_"))

        async def call(*args: Any, **kwargs: Any) -> Any:
            through = self.write if writes else self.step
            return await through(lambda: store(*args, **kwargs))

        return call

    async def submit(self, batch: Batch) -> None:
        # A request that left is not called back by the death of who sent it.
        await self.step(lambda: asyncio.shield(_quiet(self.sim.backend.submit(batch))))

    async def observe(self) -> Any:
        return await self.step(self.sim.backend.observe)

    async def cancel(self, jobs: Collection[Job]) -> None:
        await self.step(lambda: self.sim.backend.cancel(jobs))

    async def logs(self, job: Job, *, tail: int) -> str:
        text: str = await self.step(lambda: self.sim.backend.logs(job, tail=tail))
        return text

    def changes(self) -> Any:
        return self.sim.backend.changes()


def _quiet(work: Any) -> asyncio.Task[Any]:
    """A task whose error somebody may never come to hear."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


class Agent:
    """A cluster's scheduler, as the server hears it, and the end of the channel that it holds."""

    def __init__(self, sim: Simulation, name: str) -> None:
        self.sim = sim
        self.name = name
        self.server: Control | None = None
        self.known: set[str] = set()
        self.inbox: list[Mapping[str, Any]] = []
        self.reported: set[tuple[int, int]] = set()

    def send(self, message: Mapping[str, Any]) -> None:
        if not self.sim.storm or self.sim.rng.random() < 0.9:
            self.inbox.append(message)

    def close(self) -> None:
        self.server = None

    async def turn(self) -> None:
        """Whatever a scheduler does in a moment: connect, report, obey."""
        sim, server = self.sim, self.sim.server
        jobs = [j for j in sim.backend.alive() if j.batch.cluster == self.name]
        running = [j for j in jobs if j.phase is Phase.RUNNING]
        batch = sim.backend.batch
        head = [j for j in running if batch(j.batch).role is Role.SCHEDULER]
        if not head or server is None:
            self.server = None
            return
        workers = {
            f"w{j.batch.sequence}-{j.index}": j
            for j in running
            if batch(j.batch).role is Role.WORKER
        }
        if self.server is not server:
            await self.connect(server, workers)
        elif sim.storm and sim.rng.random() < 0.05:
            self.server = None
            await server.disconnected(self.name, self)
        else:
            added, removed = workers.keys() - self.known, self.known - workers.keys()
            self.known = set(workers)
            report = {"op": "report", "added": sorted(added), "removed": sorted(removed)}
            await server.message(self.name, self, report)
            await self.obey(server, head[0], workers)

    async def connect(self, server: Control, workers: Mapping[str, Job]) -> None:
        self.inbox.clear()
        self.known = set(workers)
        address = "tls://10.0.0.1:8786"
        hello = {"op": "hello", "protocol": 1, "scheduler_address": address}
        await server.connected(self.name, {**hello, "workers": sorted(workers)}, self)
        self.server = server

    async def obey(self, server: Control, head: Job, workers: Mapping[str, Job]) -> None:
        inbox, self.inbox = self.inbox, []
        for message in inbox:
            if message["op"] == "retire":
                asked = sorted(message["names"], key=lambda name: name in workers)
                names = asked[: message["count"]]
                for name in set(names) & workers.keys():
                    job = workers[name]
                    self.sim.backend.finish(job.batch, job.index, code=0)
                reply = {"op": "retired", "id": message["id"], "names": names, "error": None}
                await server.message(self.name, self, reply)
            elif message["op"] == "close":
                for job in (head, *workers.values()):
                    self.sim.backend.finish(job.batch, job.index, code=0)


class Simulation:
    """One seed: a storm, a calm, a verdict."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.storm = True
        self.deadliness = self.rng.choice((0.0, 0.005, 0.02))
        self.limit = self.rng.choice((None, None, 100.0, 300.0))
        self.cap = self.rng.choice((None, None, 3, 12))
        self.store = MemoryStore()
        self.backend = Batches(self)
        self.server: Control | None = None
        self.session: Session | None = None
        self.killed = asyncio.Event()
        self.kills = 0
        self.agents: dict[str, Agent] = {}
        self.most: dict[str, int] = {}
        self.wishes: dict[str, int] = {}
        self.stopped: set[str] = set()
        self.violations: list[str] = []
        self.over = asyncio.Event()
        self.asking = False
        self.tasks: set[asyncio.Task[Any]] = set()

    def check(self, truth: bool, otherwise: str) -> None:
        if not truth:
            self.violate(otherwise)

    def violate(self, what: str) -> None:
        self.violations.append(f"seed {self.seed}: {what}")
        if not self.asking:
            self.over.set()

    def counts(self, job: Job, role: Role) -> bool:
        """Whether a living job counts against the wish: not those that were let go already."""
        if self.backend.batch(job.batch).role is not role:
            return False
        row = self.store.journal.get((job.batch.cluster, job.batch.sequence))
        dropped = row is not None and job.index in row.released | row.exited
        return job.phase is not Phase.ENDING and not dropped and not self.leaves(job)

    def leaves(self, job: Job) -> bool:
        """Whether a worker's time is so nearly over that another one may have been asked for."""
        return job.ends is not None and job.ends - wall() < 4.3 * margin(job.ends - job.since)

    def waits(self, job: Job) -> bool:
        """Whether a job has its place in the queue because the journal wants it."""
        row = self.store.journal.get((job.batch.cluster, job.batch.sequence))
        wanted = row is not None and job.index in row.wanted
        return wanted and job.phase in (Phase.QUEUED, Phase.HELD)

    # -- the world --

    async def live(self) -> None:
        """The whole story, or up to the first thing that may never happen."""
        story = asyncio.ensure_future(self.story())
        over = asyncio.ensure_future(self.over.wait())
        await asyncio.wait({story, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if story.done():
            story.result()
        story.cancel()

    async def story(self) -> None:
        rng = self.rng
        self.backend.faults = Faults(
            lost_reply=rng.choice((0.0, 0.2)),
            late=rng.choice((0.0, 0.3)),
            hidden=rng.choice((0.0, 0.5)),
            lost_request=rng.choice((0.0, 0.2)),
            unavailable=rng.choice((0.0, 0.2)),
            partial=rng.choice((0.0, 0.4)),
            blind=rng.choice((0.0, 0.2)),
            deaf=rng.choice((0.0, 0.3)),
            dies=rng.choice((0.0, 0.05, 0.2)),
            latency=rng.choice((0.1, 4.0)),
            queue_wait=rng.choice((0.0, 10.0, 60.0)),
            cancel_time=rng.choice((0.0, 10.0)),
        )
        self.spawn(self.life_and_death())
        self.spawn(self.agency())
        await self.until(lambda: self.server is not None)
        await self.users()
        self.storm = False
        queued = self.backend.faults.queue_wait
        self.backend.heal()
        self.backend.faults = Faults(latency=0.1, queue_wait=min(queued, 10.0))
        await asyncio.sleep(PATIENCE)  # until the last old request was answered or given up
        await self.settle()
        self.verdict()

    async def life_and_death(self) -> None:
        """Servers come and are killed."""
        while True:
            self.session = Session(self)
            self.killed = asyncio.Event()
            server = Control(
                self.session,
                {self.backend.name: self.session},
                servers=["http://gateway"],
                agent_source=b"",
                clock=wall,
                on_route=lambda name, address: None,
            )
            start = asyncio.ensure_future(server.start())
            death = asyncio.ensure_future(self.killed.wait())
            await asyncio.wait({start, death}, return_when=asyncio.FIRST_COMPLETED)
            if start.done():
                start.result()
                self.server = server
                await death
            self.server = None
            self.kills += 1
            for task in (start, *server._tasks, *_submitting(server)):
                task.cancel()
            server._queue.close()
            await asyncio.sleep(self.rng.choice((0.1, 5.0, 40.0)))

    async def agency(self) -> None:
        while True:
            await asyncio.sleep(1.5)
            for name in list(self.store.table):
                agent = self.agents.setdefault(name, Agent(self, name))
                self.spawn(_patient(agent.turn()))

    async def users(self) -> None:
        """Create, scale and stop, and not always hear the answer."""
        loop = asyncio.get_running_loop()
        while loop.time() < STORM:
            await asyncio.sleep(self.rng.random() * 12)
            self.spawn(_patient(self.whim()))

    async def whim(self) -> None:
        server = self.server
        if server is None:
            return
        names = [n for n in self.most if n not in self.stopped]
        choice = self.rng.random()
        if not names or (choice < 0.2 and len(self.most) < 3):
            limits = Limits(start_timeout=START_TIMEOUT, worker_tries=TRIES)
            group = GroupSpec(backend="fake", python="python")
            spec = ClusterSpec("any", group, {GROUP: group}, limits)
            cluster = await server.create(user="alice", owner="alice", spec=spec, options={})
            self.most[cluster.name] = 0
            await self.scale(server, cluster.name)
        elif choice < 0.9:
            await self.scale(server, self.rng.choice(names))
        elif choice < 0.95:
            name = self.rng.choice(names)
            self.stopped.add(name)
            await server.stop(name, "enough")
        else:
            self.forge(self.rng.choice(names))

    async def scale(self, server: Control, name: str) -> None:
        count = self.rng.randrange(9)
        self.most[name] = max(self.most[name], count)
        await server.scale(name, count)
        self.wishes[name] = count

    def forge(self, name: str) -> None:
        """Another user submits jobs under the tags of a cluster."""
        for sequence in range(3):
            batch = BatchId("0123abcd", name, sequence)
            job = Job(batch, 0, f"forged-{name}-{sequence}", "mallory", Phase.RUNNING)
            self.backend.forge(job)

    # -- the verdict --

    async def settle(self) -> None:
        """Everybody says once more what they want, and waits."""
        await self.until(lambda: self.server is not None)
        server = self.server
        assert server is not None
        for name in list(self.store.table):
            self.most.setdefault(name, 0)
            if name in self.stopped:
                await server.stop(name, "enough")
                continue
            cluster = server.get(name)
            if cluster is not None and cluster.status.active:
                await self.scale(server, name)
        loop = asyncio.get_running_loop()
        end = loop.time() + CALM
        while loop.time() < end and not self.settled():
            await asyncio.sleep(10.0)
        await self.generations()
        self.backend.prolong()
        end = loop.time() + CALM
        while loop.time() < end and not self.settled():
            await asyncio.sleep(10.0)
        await asyncio.sleep(30.0)

    async def generations(self) -> None:
        """Calm days go by: workers come to the end of their time, and others follow them."""
        if self.limit is None or self.backend.faults.queue_wait > 0:
            return
        await asyncio.sleep(RETIRE_LIMIT)  # requests that the storm swallowed are given up
        cut_off = self.cut_off()
        for _ in range(int(2 * self.limit / 5)):
            await asyncio.sleep(5.0)
            for name, wish in self.wishes.items():
                jobs = [j for j in self.backend.alive() if j.batch.cluster == name]
                workers = sum(self.backend.batch(j.batch).role is Role.WORKER for j in jobs)
                self.check(workers <= 2 * wish, f"{workers} workers where {wish} were wished")
        self.check(self.cut_off() == cut_off, "a worker was cut off by its time limit")
        await asyncio.sleep(1.0)

    def cut_off(self) -> int:
        """How many jobs have run into their time limit."""
        lives = [life for a in self.backend._batches.values() for life in a.lives]
        return sum(life.exit is Exit.TIME_LIMIT and life.gone <= wall() for life in lives)

    def settled(self) -> bool:
        self.asking = True
        self.verdict()
        self.asking = False
        good = not self.violations
        self.violations.clear()
        return good

    def verdict(self) -> None:
        alive = self.backend.alive()
        for job in alive:
            row = self.store.journal.get((job.batch.cluster, job.batch.sequence))
            wanted = row is not None and job.index in row.wanted
            self.check(wanted, f"orphan {job.batch.tag} {job.index} {job.phase}")
        for cluster in self.store.table.values():
            self.judge(cluster, [j for j in alive if j.batch.cluster == cluster.name])
        foreign = self.backend._foreign
        self.check(all(job.owner == "mallory" for job in foreign), "a forged job is gone")

    def judge(self, cluster: Cluster, alive: list[Job]) -> None:
        who = f"cluster {cluster.name} ({cluster.status.name}, {cluster.reason!r})"
        roles = [self.backend.batch(job.batch).role for job in alive]
        rows = [row for (name, _), row in self.store.journal.items() if name == cluster.name]
        if cluster.status.active:
            wish = self.wishes.get(cluster.name, 0)
            self.check(cluster.status is Status.RUNNING, f"{who} does not run")
            self.check(roles.count(Role.SCHEDULER) == 1, f"{who} has not one scheduler")
            workers = roles.count(Role.WORKER)
            self.check(workers == wish, f"{who} has {workers} workers, not {wish}")
            self.check(cluster.name not in self.stopped, f"{who} was stopped")
            intended = [row for row in rows if row.state is RowState.INTENDED]
            self.check(not intended, f"{who} has rows that nobody settled")
        else:
            self.check(cluster.status.final, f"{who} does not end")
            self.check(not alive, f"{who} has {len(alive)} jobs")
            self.check(all(r.state is RowState.CLOSED for r in rows), f"{who} has open rows")
        died = self.dead_schedulers(cluster.name)
        failed = cluster.status is Status.FAILED
        self.check(bool(died) or not failed, f"{who} failed, and its scheduler did not")
        # One that was over before anybody could see it may count as never accepted.
        known = [id for id in died if self.store.journal[id.cluster, id.sequence].reason != LOST]
        if known and cluster.name not in self.stopped:
            self.check(failed and bool(cluster.reason), f"{who} should have failed")

    def dead_schedulers(self, name: str) -> list[BatchId]:
        """Schedulers of this cluster that ended by themselves and unasked."""
        now = wall()
        return [
            id
            for id, accepted in self.backend._batches.items()
            if id.cluster == name and accepted.batch.role is Role.SCHEDULER
            for life in accepted.lives
            if life.gone <= now and life.exit is Exit.FAILED
        ]

    # -- helpers --

    def spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.violate(repr(task.exception()))

    async def until(self, truth: Callable[[], bool]) -> None:
        while not truth():
            await asyncio.sleep(0.5)


def _submitting(server: Control) -> list[asyncio.Task[None]]:
    executor = getattr(server, "_executor", None)
    return list(executor.submitting) if executor else []


async def _patient(work: Any) -> None:
    """A caller that gives up after a while, and takes an error as an answer."""
    try:
        await asyncio.wait_for(work, PATIENCE)
    except (PenstockError, asyncio.TimeoutError):
        return


def simulate(seed: int) -> Simulation:
    """Live one seed through; its violations are what went wrong."""

    async def main() -> Simulation:
        simulation = Simulation(seed)
        await simulation.live()
        return simulation

    # The same seed is the same story: also the names, which order sets.
    names = (f"{number:032x}" for number in itertools.count(1))
    with mock.patch.object(control, "new_cluster_name", side_effect=names):
        return run(main())
