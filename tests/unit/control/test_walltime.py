"""Workers leave before their jobs' time is over, and others follow them: rules and a quiet world."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from penstock.backends.base import Capabilities
from penstock.control import handover, plan, walltime
from penstock.control.facts import Jobs, Release, Retire, Submit, Tracked
from penstock.control.launch import group_life
from penstock.control.walltime import Lifetime, Term, cohort, lifetime, margin, mark, term
from penstock.model.cluster import GroupSpec
from penstock.model.errors import Rejected
from penstock.model.ids import parse_worker_name
from penstock.model.job import Exit, Job, Phase, Role
from unit.control.test_control import World, _quiet, play
from unit.control.test_plan import decide, job, row, settled
from unit.control.virtual import wall

__all__ = ["_quiet"]

HOUR = 3600.0


@pytest.mark.parametrize(
    ("limit", "kept"), [(12 * HOUR, 600), (7 * 86400, 600), (4 * HOUR, 360), (1200, 60), (120, 10)]
)
def test_the_margin_follows_the_limit_and_leaves_most_of_a_short_one(
    limit: float, kept: float
) -> None:
    assert margin(limit) == kept


def test_an_agents_lifetime_follows_the_limit_unless_the_settings_say_less() -> None:
    def of(limit: float | None, **extras: object) -> Lifetime | None:
        return lifetime(GroupSpec("fake", "python", extras=extras), limit)

    assert of(None) is None
    assert of(12 * HOUR) == Lifetime(42600, margin(42600) / 4)
    assert of(12 * HOUR, lifetime="11 h", lifetime_stagger="10 min") == Lifetime(39600, 600)
    assert of(12 * HOUR, lifetime=14 * HOUR, lifetime_stagger=0) == Lifetime(42600, 0)
    assert of(None, lifetime=60, lifetime_stagger=600) == Lifetime(60, 30)
    with pytest.raises(Rejected, match="lifetime must be a duration"):
        of(None, lifetime="soon")


def test_a_wrong_lifetime_stops_no_round() -> None:
    group = GroupSpec("fake", "python", extras={"lifetime": "soon"})
    assert group_life(World().backend, group) is None


def running(index: int, *, since: float | None, ends: float | None = None) -> Job:
    return job(1, index, since=since, ends=ends)


def test_who_started_together_leaves_spread_out_and_always_alike() -> None:
    places = [cohort(3, index) for index in range(300)]
    for place in set(places):
        assert 30 <= places.count(place) <= 45
    assert len(set(places)) == 8
    assert cohort(3, 7) == cohort(3, 7) != cohort(4, 7)


@pytest.mark.parametrize("limit", [60.0, 300.0, 1800.0, 12 * HOUR])
def test_leaving_begins_and_ends_before_the_agents_own_end(limit: float) -> None:
    own = lifetime(GroupSpec("fake", "python"), limit)
    assert own is not None
    for index in range(20):
        found = term(
            running(index, since=1000.0, ends=1000.0 + limit),
            own,
            ran=50.0,
            watched=True,
            wall=1000.0,
            now=50.0,
        )
        assert found is not None
        assert 50.0 + limit / 2 < found.early < found.last
        assert found.last < 50.0 + own.seconds - own.stagger
        assert own.seconds + own.stagger < limit
        kept = margin(limit)
        assert found.early == pytest.approx(50 + limit - 3.8 * kept, abs=0.8 * kept)


def test_ends_come_from_settings_and_from_the_batch_system() -> None:
    now = {"ran": 0.0, "watched": False, "wall": 1000.0, "now": 0.0}
    assert term(running(0, since=1000.0), None, **now) is None
    assert term(running(0, since=1000.0, ends=999.0), None, **now) is None, "not believed"
    both = term(running(0, since=1000.0, ends=1000.0 + HOUR), Lifetime(600, 0), **now)
    assert both == term(running(0, since=1000.0), Lifetime(600, 0), **now)
    assert both is not None
    assert both.last < 600


@pytest.mark.parametrize("skew", [-HOUR, HOUR, 100 * HOUR])
def test_a_wrong_clock_makes_no_worker_leave_as_it_comes(skew: float) -> None:
    found = term(
        running(0, since=1e6, ends=1e6 + HOUR),
        None,
        ran=5.0,
        watched=True,
        wall=1e6 + skew,
        now=5.0,
    )
    assert found is not None
    assert HOUR / 5 < found.early < found.last < HOUR


def test_after_a_restart_the_batch_systems_own_start_counts() -> None:
    began = running(0, since=1e6 - HOUR, ends=1e6 + 300)
    found = term(began, None, ran=7.0, watched=False, wall=1e6, now=7.0)
    assert found is not None
    assert found.early < 7.0 + 60 < found.last + 300


def marked(tracked: Tracked, jobs: list[Job], now: float) -> tuple[int, float]:
    shown: Jobs = {1: {one.index: one for one in jobs}}
    for one in jobs:
        tracked.ran.setdefault(one.index, 0.0)
    return mark(tracked, shown, None, wall=now, now=now)


def test_marks_come_and_go_with_what_the_batch_system_says() -> None:
    tracked = settled(row(1, 2))
    jobs = [running(0, since=0.0, ends=HOUR), running(1, since=0.0)]
    new, following = marked(tracked, jobs, 60.0)
    assert (new, tracked.leaving) == (0, {})
    assert HOUR - 400 < following < HOUR - 250
    new, _ = marked(tracked, jobs, following)
    assert (new, list(tracked.leaving)) == (1, [0])
    over = replace(jobs[0], phase=Phase.EXITED, exit=Exit.DONE)
    assert marked(tracked, [over, jobs[1]], following) == (0, float("inf"))
    assert list(tracked.leaving) == [0], "its end has yet to be understood"
    marked(tracked, [replace(jobs[0], ends=9 * HOUR), jobs[1]], following)
    assert tracked.leaving == {}, "an admin gave it more time"
    marked(tracked, jobs, following)
    tracked.row = replace(tracked.row, exited=frozenset({0}))
    marked(tracked, [jobs[1]], following)
    assert tracked.leaving == {}


# the plan

TEN = {"desired": {"cpu": 4}, "linked": True}


def old(count: int, **more: Any) -> tuple[Tracked, list[Job]]:
    """Four workers that serve, of which the first ones are leaving, at moments 200, 201, …"""
    tracked = settled(row(1, 4), registered=set(range(4)), **more)
    tracked.leaving = {index: 200.0 + index for index in range(count)}
    return tracked, [job(1, index) for index in range(4)]


def test_who_leaves_is_replaced_first_and_bridges() -> None:
    tracked, jobs = old(2)
    answer = decide([tracked], jobs, **TEN)
    assert answer.actions == [Submit("cpu", 2)]
    waits = settled(row(2, 2))
    queued = [job(2, index, Phase.QUEUED) for index in range(2)]
    answer = decide([tracked, waits], [*jobs, *queued], **TEN)
    assert (answer.actions, answer.wake_at) == ([], 200.0)


def test_they_go_one_for_one_as_others_serve_those_first_whose_end_is_near() -> None:
    tracked, jobs = old(3)
    tracked.leaving[2] = 150.0
    follow = settled(row(2, 3), registered={1})
    jobs += [job(2, index) for index in range(3)]
    answer = decide([tracked, follow], jobs, **TEN)
    assert answer.actions == [Retire("cpu", 1, ((1, 2),))]
    assert decide([tracked, follow], jobs, retiring={"cpu"}, **TEN).actions == []
    assert decide([tracked, follow], jobs, desired={"cpu": 4}, linked=False).actions == []


def test_at_their_last_moment_they_go_in_any_case() -> None:
    tracked, jobs = old(3)
    follow = settled(row(2, 3))
    jobs += [job(2, index, Phase.QUEUED) for index in range(3)]
    answer = decide([tracked, follow], jobs, now=201.0, **TEN)
    assert answer.actions == [Retire("cpu", 2, ((1, 0), (1, 1)))]
    assert answer.wake_at == 202.0


def test_when_fewer_are_wanted_the_leaving_go_first() -> None:
    tracked, jobs = old(2)
    answer = decide([tracked], jobs, desired={"cpu": 2}, linked=True)
    assert answer.actions == [Retire("cpu", 2, ((1, 0), (1, 1)))]
    answer = decide([tracked], jobs, desired={"cpu": 1}, linked=True)
    assert answer.actions == [Retire("cpu", 2, ((1, 0), (1, 1)))], "the third comes next"


def test_a_group_that_gets_no_more_workers_keeps_the_leaving_to_the_last() -> None:
    tracked, jobs = old(2)
    answer = decide([tracked], jobs, desired={"cpu": 2}, keep={"cpu": 4}, linked=True)
    assert answer.actions == []


def test_a_stopping_cluster_knows_no_leaving() -> None:
    tracked, jobs = old(4)
    answer = decide([tracked], jobs, desired={"cpu": 0}, stopping=True, forced=True)
    assert answer.actions[0] == Release(1, frozenset(range(4)))


# a quiet world, hours of it


class Quiet:
    """A cluster whose workers have a time limit, its scheduler, and what was seen of both."""

    def __init__(self, world: World, wish: int) -> None:
        self.world = world
        self.wish = wish
        self.cut_off = 0
        self.complete = False
        self.fewest = wish
        self.most = 0
        self.registered: set[str] = set()

    async def serve(self, seconds: float) -> None:
        """The scheduler: reports what runs, and retires what it is asked to."""
        world, end = self.world, asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            alive = [j for j in world.backend.alive() if j.batch.sequence]
            up = {f"w{j.batch.sequence}-{j.index}" for j in alive if j.phase is Phase.RUNNING}
            added, removed = sorted(up - self.registered), sorted(self.registered - up)
            self.registered = up
            await world.report(added=added, removed=removed)
            self.most = max(self.most, len(alive))
            if len(up) == self.wish:
                self.complete = True
            if self.complete:
                self.fewest = min(self.fewest, len(up))
            for message in list(world.channel.got):
                world.channel.got.remove(message)
                if message["op"] == "retire":
                    await self.retire(message)
            await asyncio.sleep(world.backend.capabilities.period)

    async def retire(self, message: Any) -> None:
        names = sorted(message["names"], key=lambda name: name in self.registered)
        names = names[: message["count"]]
        for name in set(names) & self.registered:
            worker = parse_worker_name(name)
            assert worker is not None
            self.world.backend.finish(self.world.job(worker[0]), worker[1], code=0)
        reply = {"op": "retired", "id": message["id"], "names": names}
        await self.world.control.message(self.world.name, self.world.channel, reply)

    def time_limits(self) -> int:
        """How many jobs ran into their limit."""
        return sum(
            life.exit is Exit.TIME_LIMIT and life.gone <= wall()
            for accepted in self.world.backend._batches.values()
            for life in accepted.lives
        )


def quiet(
    *, wish: int = 40, limit: float = HOUR, hours: float = 4, wait: float = 30.0
) -> tuple[Quiet, list[str]]:
    texts: list[str] = []
    seen: list[Quiet] = []

    async def story(world: World) -> None:
        world.backend.limits[Role.WORKER] = limit
        period = max(1.0, limit / 1000)
        world.backend.capabilities = Capabilities(max_batch=100, visibility=9.0, period=period)
        await world.running()
        await world.control.scale(world.name, wish)
        rig = Quiet(world, wish)
        seen.append(rig)
        await asyncio.sleep(2 * period)
        world.backend.faults.queue_wait = wait
        await rig.serve(hours * limit)
        rig.cut_off = rig.time_limits()
        texts.extend(await world.texts())

    play(story)
    return seen[0], texts


def ends_well(rig: Quiet) -> bool:
    """As many workers as are wished, all the time, at a bounded cost, and nobody is cut off."""
    return rig.cut_off == 0 and rig.fewest >= rig.wish and rig.most <= 1.8 * rig.wish


@pytest.mark.parametrize("limit", [600.0, HOUR, 12 * HOUR])
def test_workers_are_replaced_before_they_go(limit: float) -> None:
    rig, texts = quiet(limit=limit)
    assert (rig.cut_off, rig.fewest) == (0, 40)
    assert ends_well(rig)
    assert len(rig.world.backend.submitted) <= 200, "four generations, and none came twice"
    assert not [text for text in texts if "worker w" in text], "nobody died"
    told = [text for text in texts if "time is over" in text]
    assert 4 <= len(told) <= 100


def test_hundreds_leave_in_a_few_batches() -> None:
    rig, _ = quiet(wish=300, hours=1.05)
    assert ends_well(rig)
    assert rig.most < 450, "a part at a time"
    assert len(rig.world.backend.submitted) <= 1 + 3 + 10


def test_when_the_queue_is_full_workers_work_to_their_last_moment() -> None:
    rig, _ = quiet(hours=0.99, wait=1e9)
    assert rig.cut_off == 0
    world = rig.world
    assert len(world.backend.submitted) <= 10
    gone = [
        life.gone - life.starts
        for life in world.backend._batches[world.job(1)].lives
        if life.gone <= life.starts + HOUR
    ]
    assert len(gone) == 40
    assert min(gone) > HOUR - 2.1 * margin(HOUR)


def nobody_leaves(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(walltime, "term", lambda *args, **more: None)


def the_leaving_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plan, "leaving", lambda situation, group, rows: [])


def nobody_bridges(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(handover, "serving", lambda situation, group, rows: 10**6)


def nobody_has_to_go(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(handover, "serving", lambda situation, group, rows: 0)

    def never(*args: Any, **more: Any) -> Term | None:
        found = term(*args, **more)
        return None if found is None else replace(found, last=float("inf"))

    patch.setattr(walltime, "term", never)


def all_go_together(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(walltime, "cohort", lambda sequence, index: 0.0)


@pytest.mark.parametrize(
    "mutate",
    [nobody_leaves, the_leaving_count, nobody_bridges, nobody_has_to_go, all_go_together],
)
def test_without_a_rule_it_does_not_end_well(
    mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    rig, _ = quiet(hours=1.2)
    assert not ends_well(rig)
