"""What the process beside a notebook does on a backend: for one cluster, and to the end."""

import dataclasses

import pytest

from penstock.backends.fake import FakeBackend
from penstock.backends.relay.wire import encode_batch, handle_of
from penstock.model.ids import BatchId, new_cluster_name
from penstock.model.job import Batch, Exit, Phase, Role
from penstock.notebook.hands import Hands

GATEWAY, CLUSTER = "0123abcd", "a" * 32


@pytest.fixture
def backend():
    return FakeBackend()


@pytest.fixture
def hands(backend):
    return Hands(backend, GATEWAY, CLUSTER, "alice")


def batch(sequence: int = 1, cluster: str = CLUSTER, owner: str = "alice") -> Batch:
    return Batch(BatchId(GATEWAY, cluster, sequence), owner, Role.WORKER, 2, ("x",))


async def test_only_the_jobs_of_this_cluster_are_shown_and_ended(backend, hands):
    await backend.submit(batch())
    await backend.submit(batch(cluster=new_cluster_name()))
    seen = await hands.answer({"op": "observe"})
    assert (seen["op"], len(seen["jobs"])) == ("done", 2)
    assert await hands.clear(5)
    assert len(backend.alive()) == 2


async def test_its_account_may_have_another_name_in_the_batch_system(backend, hands):
    """As with a token. Whoever else shows up under the tag later is not believed."""
    await backend.submit(batch(owner="alice-of-the-pool"))
    assert len((await hands.answer({"op": "observe"}))["jobs"]) == 2
    await backend.submit(batch(2, owner="mallory"))
    seen = await hands.answer({"op": "observe"})
    assert {row[0] for row in seen["jobs"]} == {1}
    assert await hands.clear(5)
    assert {job.owner for job in backend.alive()} == {"mallory"}


async def test_two_names_at_first_sight_are_both_strangers(backend, hands):
    await backend.submit(batch(owner="alice-of-the-pool"))
    await backend.submit(batch(2, owner="mallory"))
    assert (await hands.answer({"op": "observe"}))["jobs"] == []


async def test_exactly_the_named_jobs_are_cancelled(backend, hands):
    await hands.answer({**encode_batch(batch()), "id": 1})
    jobs = (await backend.observe()).jobs
    assert await hands.answer({"op": "observe"})
    assert await hands.answer({"op": "cancel", "jobs": [handle_of(jobs[1])]}) == {"op": "done"}
    [left] = backend.alive()
    assert left.index == 0


@pytest.mark.parametrize(
    "said",
    [
        {"op": "cancel", "jobs": [["x"]]},
        {"op": "logs", "job": None, "tail": 5},
        {"op": "submit"},
        {"op": "format the disk"},
        {},
    ],
)
async def test_what_makes_no_sense_is_rejected(backend, hands, said):
    answer = await hands.answer(said)
    assert (answer["op"], answer["kind"]) == ("failed", "rejected")
    assert backend.submitted == []


async def test_who_leaves_submits_nothing_more(backend, hands):
    assert await hands.clear(5)
    answer = await hands.answer({**encode_batch(batch()), "id": 1})
    assert (answer["kind"], backend.submitted) == ("unavailable", [])


async def test_all_is_over_only_when_nothing_can_come_any_more(backend, hands):
    backend.faults.lost_request = 1.0
    backend.capabilities = dataclasses.replace(backend.capabilities, visibility=0.8)
    answer = await hands.answer({**encode_batch(batch()), "id": 1})
    assert answer["kind"] == "uncertain"
    assert not await hands.clear(0.1)
    assert await hands.clear(5)


async def test_a_batch_system_that_does_not_answer_is_no_empty_one(backend, hands):
    await backend.submit(batch())
    backend.faults.blind = 1.0
    told = []
    assert not await hands.clear(0.6, told.append)
    assert told == []
    assert (await hands.answer({"op": "observe"}))["kind"] == "unavailable"
    backend.faults.blind = 0.0
    assert await hands.clear(5, told.append)
    assert told[0] == 2


async def test_ends_reach_the_server(backend, hands):
    await backend.submit(batch())
    await backend.cancel((await backend.observe()).jobs)
    rows = (await hands.answer({"op": "observe"}))["jobs"]
    assert {(row[3], row[4]) for row in rows} == {(Phase.EXITED.value, Exit.CANCELLED.value)}
