"""What the relay makes of notebooks that come, go, stay away, answer late, or not at all."""

from __future__ import annotations

import asyncio
import json

import pytest

from penstock.backends.fake import FakeBackend
from penstock.backends.relay.backend import RelayBackend
from penstock.backends.relay.holder import Holder
from penstock.backends.relay.ledger import LINGER
from penstock.backends.relay.wire import Hello
from penstock.model.errors import Absent, PenstockError, Rejected, Unavailable, Uncertain
from penstock.model.ids import BatchId, new_cluster_name
from penstock.model.job import Batch, Role
from rigs.relay import Notebook

GATEWAY = "0123abcd"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(tmp_path, clock):
    def make(**options):
        file = tmp_path / "notebook.json"
        options = {"timeout": 0.5, "grace": 100.0, "wall": clock, "clock": clock, **options}
        return RelayBackend("notebook", GATEWAY, file, **options)

    return make


@pytest.fixture
def relay(make):
    return make()


def batch(cluster: str, sequence: int = 1, count: int = 2) -> Batch:
    return Batch(BatchId(GATEWAY, cluster, sequence), "alice", Role.WORKER, count, ("x",))


def notebook(place: str = "pool", backend: FakeBackend | None = None, *, cluster: str) -> Notebook:
    made = Notebook(backend or FakeBackend(), GATEWAY, cluster, "jovyan")
    made.holder = Holder(Hello(place, f"notebook at {place}"), made.receive)
    return made


def join(relay: RelayBackend, cluster: str, one: Notebook) -> Notebook:
    relay.attach(cluster, "alice", one.holder)
    return one


async def alive(relay: RelayBackend) -> list[tuple[int, int]]:
    snapshot = await relay.observe()
    return sorted((job.batch.sequence, job.index) for job in snapshot.jobs if job.alive)


async def test_jobs_are_the_clusters_users_whoever_the_notebook_is(relay):
    cluster = new_cluster_name()
    one = join(relay, cluster, notebook(cluster=cluster))
    await relay.submit(batch(cluster))
    snapshot = await relay.observe()
    assert {job.owner for job in snapshot.jobs} == {"alice"}
    assert {job.batch.cluster for job in snapshot.jobs} == {cluster}
    assert (snapshot.complete, snapshot.unsure) == (True, frozenset())
    assert one.hands.backend.submitted == [BatchId(GATEWAY, cluster, 1)]


async def test_without_a_notebook_only_that_cluster_waits(relay):
    here, away = new_cluster_name(), new_cluster_name()
    join(relay, here, notebook(cluster=here))
    with pytest.raises(Absent, match=r"HTCGateway\(\).connect"):
        await relay.submit(batch(away))
    assert "no notebook is connected" in relay.refuses(away)
    assert relay.refuses(here) == ""
    await relay.submit(batch(here))


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        ({"refuse": "no such group"}, Rejected),
        ({"unavailable": 1.0}, Absent),
        ({"lost_reply": 1.0}, Uncertain),
    ],
)
async def test_what_its_batch_system_says_reaches_the_core(relay, fault, raised):
    cluster = new_cluster_name()
    one = join(relay, cluster, notebook(cluster=cluster))
    for name, value in fault.items():
        setattr(one.hands.backend.faults, name, value)
    with pytest.raises(raised):
        await relay.submit(batch(cluster))


async def test_an_unclear_submission_is_proven_by_nothing_until_its_time_is_over(relay):
    cluster = new_cluster_name()
    one = join(relay, cluster, notebook(cluster=cluster))
    one.hands.backend.faults.lost_request = 1.0
    with pytest.raises(Uncertain):
        await relay.submit(batch(cluster))
    assert (await relay.observe()).unsure == {cluster}
    one.hands._unclear_until = float("-inf")
    assert (await relay.observe()).unsure == frozenset()


async def test_a_cut_connection_leaves_jobs_as_they_were(relay):
    cluster = new_cluster_name()
    one = join(relay, cluster, notebook(cluster=cluster))
    await relay.submit(batch(cluster))
    assert await alive(relay) == [(1, 0), (1, 1)]
    one.deaf = True
    submitting = asyncio.ensure_future(relay.submit(batch(cluster, 2)))
    await asyncio.sleep(0)
    relay.detach(cluster, one.holder)
    with pytest.raises(Uncertain, match="cut off"):
        await submitting
    snapshot = await relay.observe()
    assert len(snapshot.jobs) == 2
    assert snapshot.unsure == {cluster}
    with pytest.raises(Unavailable):
        await relay.logs(snapshot.jobs[0], tail=10)
    with pytest.raises(Unavailable, match="not connected any more"):
        await one.holder.ask({"op": "observe"}, 1.0)


async def test_what_was_cancelled_while_it_was_away_is_told_when_it_is_back(relay):
    cluster = new_cluster_name()
    system = FakeBackend()
    one = join(relay, cluster, notebook(backend=system, cluster=cluster))
    await relay.submit(batch(cluster))
    jobs = (await relay.observe()).jobs
    relay.detach(cluster, one.holder)
    await relay.cancel([jobs[0]])
    assert len(system.alive()) == 2
    join(relay, cluster, notebook(backend=system, cluster=cluster))
    await relay.observe()
    await _until(lambda: len(system.alive()) == 1)
    assert await alive(relay) == [(1, 1)]


async def test_one_that_does_not_answer_holds_nobody_up(relay, monkeypatch):
    monkeypatch.setattr("penstock.backends.relay.backend.PATIENCE", 0.05)
    slow, quick = new_cluster_name(), new_cluster_name()
    join(relay, slow, notebook(cluster=slow)).deaf = True
    join(relay, quick, notebook(cluster=quick))
    await relay.submit(batch(quick))
    snapshot = await relay.observe()
    assert {job.batch.cluster for job in snapshot.jobs} == {quick}
    assert snapshot.unsure == {slow}
    await relay.aclose()


async def test_a_late_answer_counts_from_when_it_was_asked_for(relay, clock, monkeypatch):
    monkeypatch.setattr("penstock.backends.relay.backend.PATIENCE", 0.01)
    slow, quick = new_cluster_name(), new_cluster_name()
    late = join(relay, slow, notebook(cluster=slow))
    join(relay, quick, notebook(cluster=quick))
    late.deaf = True
    await relay.observe()
    question = late.heard[-1]
    clock.now += 5.0
    late.deaf = False
    late.receive(question)
    await _until(lambda: relay._ledgers[slow].places["pool"].looking is None)
    late.deaf = True
    snapshot = await relay.observe()
    assert snapshot.started == 1000.0
    assert snapshot.unsure == frozenset()
    clock.now += 30.0
    assert (await relay.observe()).unsure == {slow}
    await relay.aclose()


async def test_nonsense_is_no_look(relay):
    cluster = new_cluster_name()
    holder = Holder(Hello("pool", "a liar"), lambda m: None)
    holder.send = lambda message: holder.answered({"op": "done", "id": message["id"], "jobs": [7]})
    relay.attach(cluster, "alice", holder)
    snapshot = await relay.observe()
    assert (snapshot.jobs, snapshot.unsure) == ((), {cluster})


# -- several notebooks --


async def test_the_newest_takes_over_and_the_older_is_told(relay):
    cluster = new_cluster_name()
    system = FakeBackend()
    old = join(relay, cluster, notebook(backend=system, cluster=cluster))
    await relay.submit(batch(cluster))
    new = Notebook(system, GATEWAY, cluster, "jovyan")
    new.holder = Holder(Hello("pool", "another"), new.receive)
    join(relay, cluster, new)
    assert old.heard[-1] == {"op": "standby", "by": "another"}
    assert new.heard[-1] == {"op": "active", "from": "notebook at pool"}
    await relay.submit(batch(cluster, 2))
    assert [m["op"] for m in new.heard if m["op"] == "submit"] == ["submit"]
    assert await alive(relay) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    relay.detach(cluster, new.holder, keep=True)
    assert old.heard[-1] == {"op": "active", "from": ""}
    assert relay.away(cluster) == 0
    await relay.submit(batch(cluster, 3))
    assert len(await alive(relay)) == 6


async def test_the_same_notebook_that_comes_back_is_no_other(relay):
    cluster = new_cluster_name()
    old = join(relay, cluster, notebook(cluster=cluster))
    join(relay, cluster, notebook(cluster=cluster))
    assert old.heard == []


async def test_jobs_at_another_place_are_still_looked_at_and_ended_there(relay, clock):
    cluster = new_cluster_name()
    first = join(relay, cluster, notebook("pool", cluster=cluster))
    await relay.submit(batch(cluster, 1))
    second = join(relay, cluster, notebook("farm", cluster=cluster))
    await relay.submit(batch(cluster, 2))
    assert await alive(relay) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    jobs = (await relay.observe()).jobs
    await relay.cancel([job for job in jobs if job.index == 0])
    await _until(lambda: len(first.hands.backend.alive()) == 1)
    await _until(lambda: len(second.hands.backend.alive()) == 1)
    assert await alive(relay) == [(1, 1), (2, 1)]
    relay.detach(cluster, first.holder)
    assert await alive(relay) == [(1, 1), (2, 1)]
    assert (await relay.observe()).unsure == {cluster}
    clock.now += 101.0
    assert await alive(relay) == [(2, 1)]
    assert (await relay.observe()).unsure == frozenset()


# -- away --


async def test_one_that_is_cut_off_is_away_and_one_that_leaves_its_jobs_is_not(relay, clock):
    cluster = new_cluster_name()
    one = join(relay, cluster, notebook(cluster=cluster))
    assert relay.away(cluster) == 0
    relay.detach(cluster, one.holder)
    clock.now += 42
    assert relay.away(cluster) == 42
    two = join(relay, cluster, notebook(cluster=cluster))
    assert relay.away(cluster) == 0
    relay.detach(cluster, two.holder, keep=True)
    clock.now += 1000
    assert relay.away(cluster) == 0
    assert (await relay.observe()).unsure == {cluster}


async def test_an_ending_cluster_does_not_wait_long_for_who_is_away(relay, clock):
    cluster = new_cluster_name()
    one = join(relay, cluster, notebook(cluster=cluster))
    await relay.submit(batch(cluster))
    await relay.observe()
    relay.detach(cluster, one.holder)
    relay.ending(cluster)
    assert (await relay.observe()).unsure == {cluster}
    clock.now += LINGER + 1
    snapshot = await relay.observe()
    assert (snapshot.jobs, snapshot.unsure) == ((), frozenset())


async def test_one_that_ended_all_of_its_jobs_leaves_no_doubt(relay):
    cluster = new_cluster_name()
    one = join(relay, cluster, notebook(cluster=cluster))
    await relay.submit(batch(cluster))
    await relay.observe()
    assert await one.hands.clear(5)
    relay.detach(cluster, one.holder, cleared=True)
    snapshot = await relay.observe()
    assert (snapshot.jobs, snapshot.unsure) == ((), frozenset())


async def test_who_is_connected_when_it_is_over_is_told(relay):
    cluster = new_cluster_name()
    one = join(relay, cluster, notebook(cluster=cluster))
    relay.over(cluster, "stopped by alice")
    assert one.heard[-1] == {"op": "over", "reason": "stopped by alice"}
    assert relay.clusters == []
    relay.detach(cluster, one.holder)


# -- a new server --


async def test_a_new_server_is_unsure_until_the_notebook_is_back(make, clock):
    cluster, kept, over = new_cluster_name(), new_cluster_name(), new_cluster_name()
    before, system = make(), FakeBackend()
    join(before, cluster, notebook(backend=system, cluster=cluster))
    await before.submit(batch(cluster))
    gone = join(before, kept, notebook(cluster=kept))
    before.detach(kept, gone.holder, keep=True)
    join(before, over, notebook(cluster=over))
    before.over(over, "")
    after = make()
    clock.now += 7
    assert sorted(after.clusters) == sorted([cluster, kept])
    assert (after.away(cluster), after.away(kept)) == (7, 0)
    assert (await after.observe()).unsure == {cluster, kept}
    join(after, cluster, notebook(backend=system, cluster=cluster))
    assert await alive(after) == [(1, 0), (1, 1)]
    assert (await after.observe()).unsure == {kept}


def test_a_memory_that_cannot_be_read_stops_the_server(make, tmp_path):
    (tmp_path / "notebook.json").write_text("{")
    with pytest.raises(PenstockError, match=r"notebook\.json cannot be read"):
        make()


def test_strange_names_in_the_memory_are_left_out(make, tmp_path):
    (tmp_path / "notebook.json").write_text(json.dumps({"x": True, "a" * 32: True}))
    assert make().clusters == ["a" * 32]


async def _until(good) -> None:
    for _ in range(2000):
        if good():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("not in ten seconds")
