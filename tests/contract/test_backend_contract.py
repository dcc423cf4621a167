"""What every backend promises the core (``penstock.backends.base``), each promise a test."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time

import pytest

from penstock.model.errors import BackendError, Rejected
from penstock.model.ids import new_gateway_id
from penstock.model.job import Exit, Job, Phase
from rigs.backends import BackendRig, make_batch, observe_until

NASTY = "a\nb\r\n\"quotes\" 'and' $HOME $(id) `id` \\ ; & | * ~ #\t é 漢字 \U0001f30a"


def running(count: int):
    """That many jobs run."""
    return lambda jobs: len([job for job in jobs if job.phase is Phase.RUNNING]) == count


def over(jobs: list[Job]) -> bool:
    return bool(jobs) and all(not job.alive for job in jobs)


async def test_every_index_runs_once_with_tag_and_owner(rig: BackendRig) -> None:
    backend = rig.open()
    batch = make_batch(rig, 5)
    before = time.time()
    await backend.submit(batch)
    jobs = await observe_until(backend, running(5), "five jobs run")
    assert [(job.batch, job.index) for job in jobs] == [(batch.id, index) for index in range(5)]
    assert {job.owner for job in jobs} == {rig.owner}
    assert len({job.native for job in jobs}) == 5
    assert all(job.exit is None and job.exit_code is None for job in jobs)
    assert all(job.since is not None and before - 1 <= job.since <= time.time() for job in jobs)


async def test_environment_and_files_arrive_byte_for_byte(rig: BackendRig) -> None:
    backend = rig.open()
    large = (NASTY * 2000)[:100_000]
    env = {"NASTY": NASTY, "EMPTY": "", "LARGE": large, "ODD-name.1": "x", "UNICØDE": "ø"}
    files = {"data": bytes(range(256)) * 100, "empty": b"", "with space 'é'.txt": b"$HOME"}
    batch = make_batch(rig, 2, env=env, files=files)
    await backend.submit(batch)
    jobs = await observe_until(backend, running(2), "both jobs run")
    for job in jobs:
        seen = await rig.seen(job)
        own = {"PENSTOCK_TAG": batch.id.tag.encode(), "PENSTOCK_INDEX": b"%d" % job.index}
        assert seen.env == {key: value.encode() for key, value in env.items()} | own
        assert seen.files.items() >= {
            (name, (0o600, content)) for name, content in batch.files.items()
        }


async def test_the_tag_cannot_be_overridden(rig: BackendRig) -> None:
    backend = rig.open()
    batch = make_batch(rig, env={"PENSTOCK_TAG": "mine", "PENSTOCK_INDEX": "7"})
    await backend.submit(batch)
    (job,) = await observe_until(backend, running(1), "the job runs")
    seen = await rig.seen(job)
    assert (seen.env["PENSTOCK_TAG"], seen.env["PENSTOCK_INDEX"]) == (batch.id.tag.encode(), b"0")


async def test_cancel_ends_exactly_these(rig: BackendRig) -> None:
    backend = rig.open()
    await backend.submit(make_batch(rig, 4))
    jobs = await observe_until(backend, running(4), "four jobs run")
    await backend.cancel([jobs[1], jobs[3]])
    left = await observe_until(
        backend,
        lambda now: {job.index for job in now if job.alive} == {0, 2},
        "two jobs are left",
    )
    for job in left:
        if not job.alive:
            assert job.exit is Exit.CANCELLED
    assert [job.native for job in left if job.alive] == [jobs[0].native, jobs[2].native]


async def test_cancel_of_what_is_absent_is_a_success(rig: BackendRig) -> None:
    backend = rig.open()
    batch = make_batch(rig)
    await backend.submit(batch)
    (job,) = await observe_until(backend, running(1), "the job runs")
    absent = dataclasses.replace(make_batch(rig).id, sequence=9)
    await backend.cancel([dataclasses.replace(job, batch=absent)])
    await backend.cancel([dataclasses.replace(job, index=5)])
    await backend.cancel([])
    assert running(1)(list((await backend.observe()).jobs))
    await backend.cancel([job])
    await backend.cancel([job])
    await observe_until(backend, lambda now: not any(j.alive for j in now), "the job ended")
    await backend.cancel([job])


@pytest.mark.parametrize(
    ("code", "exit", "shown", "word"),
    [
        (0, Exit.DONE, 0, ""),
        (3, Exit.FAILED, 3, "3"),
        (255, Exit.FAILED, 255, "255"),
        (-9, Exit.FAILED, 137, "SIGKILL"),
        (-11, Exit.FAILED, 139, "SIGSEGV"),
    ],
)
async def test_exit_codes_and_signals(
    rig: BackendRig, code: int, exit: Exit, shown: int, word: str
) -> None:
    backend = rig.open()
    await backend.submit(make_batch(rig))
    (job,) = await observe_until(backend, running(1), "the job runs")
    await rig.finish(job, code)
    (job,) = await observe_until(backend, over, "the job ended")
    assert (job.phase, job.exit, job.exit_code) == (Phase.EXITED, exit, shown)
    assert word in job.reason


async def test_changes_tell_of_an_end(rig: BackendRig) -> None:
    backend = rig.open()
    changes = backend.changes()
    told = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    await backend.submit(make_batch(rig))
    (job,) = await observe_until(backend, running(1), "the job runs")
    await rig.finish(job, 0)
    await asyncio.wait_for(told, 30)
    await changes.aclose()  # type: ignore[attr-defined]


async def test_logs_are_the_last_bytes(rig: BackendRig) -> None:
    backend = rig.open()
    await backend.submit(make_batch(rig))
    (job,) = await observe_until(backend, running(1), "the job runs")
    await rig.seen(job)
    assert await backend.logs(job, tail=10_000) == "out of 0\nerr \N{REPLACEMENT CHARACTER}\n"
    assert await backend.logs(job, tail=3) == " \N{REPLACEMENT CHARACTER}\n"
    await rig.finish(job, 1)
    await observe_until(backend, over, "the job ended")
    assert (await backend.logs(job, tail=10_000)).startswith("out of 0\n")
    assert await backend.logs(dataclasses.replace(job, index=3), tail=100) == ""


async def test_a_snapshot_starts_before_it_looks_and_is_complete(rig: BackendRig) -> None:
    backend = rig.open()
    before = time.time()
    empty = await backend.observe()
    assert before <= empty.started <= time.time()
    assert (empty.complete, empty.jobs) == (True, ())
    await backend.submit(make_batch(rig, 3))
    await observe_until(backend, running(3), "three jobs run")
    for _ in range(10):
        snapshot = await backend.observe()
        assert snapshot.complete
        assert sorted(job.index for job in snapshot.jobs) == [0, 1, 2]


async def test_a_new_object_finds_all_jobs_again(rig: BackendRig) -> None:
    first = rig.open()
    batch = make_batch(rig, 3)
    await first.submit(batch)
    jobs = await observe_until(first, running(3), "three jobs run")
    await first.aclose()
    second = rig.open()
    again = await observe_until(second, running(3), "three jobs run still")
    assert again == jobs
    await rig.finish(again[0], 4)
    await second.cancel([again[1]])
    ended = await observe_until(
        second, lambda now: sum(not job.alive for job in now) == 2, "two jobs ended"
    )
    assert [job.exit for job in ended] == [Exit.FAILED, Exit.CANCELLED, None]
    await second.aclose()
    third = rig.open()
    last = await observe_until(third, lambda now: len(now) == 3, "all are known still")
    assert [(job.exit, job.exit_code) for job in last] == [
        (job.exit, job.exit_code) for job in ended
    ]


async def test_a_tag_is_never_started_twice(rig: BackendRig) -> None:
    backend = rig.open()
    batch = make_batch(rig, 2)
    others = [rig.open() for _ in range(3)]
    results = await asyncio.gather(
        *(one.submit(batch) for one in [backend, *others, backend]), return_exceptions=True
    )
    assert all(result is None or isinstance(result, BackendError) for result in results)
    jobs = await observe_until(backend, running(2), "two jobs run")
    await backend.cancel(jobs)
    await observe_until(backend, over, "both ended")
    with contextlib.suppress(BackendError):
        await backend.submit(batch)
    assert not any(job.alive for job in (await backend.observe()).jobs)


async def test_another_gateway_does_not_exist(rig: BackendRig) -> None:
    mine, other = rig.open(), rig.open(new_gateway_id())
    await mine.submit(make_batch(rig))
    jobs = await observe_until(mine, running(1), "the job runs")
    assert (await other.observe()).jobs == ()
    await other.forget(jobs[0].batch.cluster)
    assert await observe_until(mine, running(1), "it runs still") == jobs


async def test_a_user_who_does_not_exist_is_rejected(judging_rig: BackendRig) -> None:
    backend = judging_rig.open()
    with pytest.raises(Rejected, match="no-such-user"):
        await backend.submit(make_batch(judging_rig, owner="no-such-user"))
    assert (await backend.observe()).jobs == ()


@pytest.mark.parametrize("count", [0, -1, 10**6])
async def test_a_batch_of_impossible_size_is_rejected(judging_rig: BackendRig, count: int) -> None:
    backend = judging_rig.open()
    with pytest.raises(Rejected):
        await backend.submit(make_batch(judging_rig, count))
    assert (await backend.observe()).jobs == ()


async def test_forget_takes_only_that_cluster(rig: BackendRig) -> None:
    backend = rig.open()
    await backend.submit(make_batch(rig))
    await backend.submit(make_batch(rig))
    one, other = await observe_until(backend, running(2), "both run")
    await rig.finish(one, 0)
    await observe_until(
        backend, lambda jobs: [job.batch for job in jobs if job.alive] == [other.batch], "one ended"
    )
    await backend.forget(one.batch.cluster)
    assert await backend.logs(one, tail=100) == ""
    assert (await backend.observe()).jobs == (other,)
    assert (await rig.seen(other)).env
    await backend.forget(one.batch.cluster)
