"""The backend alone on a real Slurm: what is only true there, and what breaks only there."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time

import pytest

from penstock.model.errors import Rejected, Unavailable, Uncertain
from penstock.model.job import Exit, Phase, Resources
from rigs.backends import make_batch, observe_until
from rigs.slurm_jobs import SlurmRig

SLEEP = b"import time; time.sleep(1000)"


@pytest.fixture
async def rig(slurm, unix_users):
    rig = SlurmRig(slurm, unix_users[0])
    yield rig
    await rig.aclose()


def sleepers(rig, count, **changes):
    return make_batch(rig, count, **{"files": {"probe.py": SLEEP}, **changes})


def alive(jobs):
    return {job.index for job in jobs if job.alive}


def count(number):
    """So many jobs live."""
    return lambda jobs: sum(job.alive for job in jobs) == number


async def test_a_hundred_jobs_are_one_submission_and_one_cancellation(rig, slurm):
    backend = rig.open()
    await backend.observe()
    batch = sleepers(rig, 100, resources=Resources(memory=2**20))
    await backend.submit(batch)
    jobs = (await backend.observe()).jobs
    assert {job.index for job in jobs} == set(range(100))
    assert {job.batch for job in jobs} == {batch.id}
    assert len({job.native.partition("_")[0] for job in jobs}) == 1
    await backend.cancel(jobs[:99])
    last = jobs[99].index
    await observe_until(backend, lambda now: alive(now) == {last}, "one is left", seconds=60)


async def test_the_size_of_arrays_is_slurms(rig):
    backend = rig.open()
    await backend.observe()
    assert backend.capabilities.max_batch == 501
    with pytest.raises(Rejected, match="1 to 501 jobs"):
        await backend.submit(sleepers(rig, 502))


async def test_queued_tasks_are_cancelled_one_by_one(rig):
    backend = rig.open()
    await backend.submit(sleepers(rig, 6, extras={"arguments": ["--begin=now+1hour"]}))
    jobs = await observe_until(backend, lambda now: len(now) == 6, "six jobs wait")
    assert {job.phase for job in jobs} == {Phase.QUEUED}
    said = {job.reason.partition(", UnavailableNodes")[0] for job in jobs}
    assert said <= {"BeginTime", "", "ReqNodeNotAvail"}, "nodes may be busy ending other jobs"
    await backend.cancel([jobs[1], jobs[3], jobs[4]])
    await observe_until(backend, lambda now: alive(now) == {0, 2, 5}, "three are left")


async def test_an_id_that_is_somebody_elses_by_now_is_not_touched(rig, slurm, unix_users):
    backend = rig.open()
    await backend.submit(sleepers(rig, 1))
    [mine] = await observe_until(backend, alive, "it is there")
    theirs = SlurmRig(slurm, unix_users[1])
    try:
        other = theirs.open()
        await other.submit(sleepers(theirs, 1))
        [victim] = await observe_until(other, alive, "theirs is there")
        await backend.cancel([dataclasses.replace(mine, native=victim.native)])
        await observe_until(backend, lambda now: not alive(now), "ours is gone")
        forged = dataclasses.replace(victim, owner=rig.owner)
        await backend.cancel([forged])
        await other.cancel([forged])
        assert alive((await other.observe()).jobs) == {0}
    finally:
        await theirs.aclose()


async def test_a_held_job_says_so_and_why(rig, slurm):
    backend = rig.open()
    await backend.submit(sleepers(rig, 1, extras={"arguments": ["--begin=now+1hour"]}))
    [job] = await observe_until(backend, alive, "it waits")
    slurm.run("scontrol", "hold", job.native)
    [job] = await observe_until(backend, lambda now: now[0].phase is Phase.HELD, "it is held")
    assert "Held" in job.reason


def back(slurm, node):
    """Whether a node is idle again; Slurm refuses to resume it while it is not down, or not yet."""
    slurm.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
    return slurm.node_states()[node] == "idle"


async def test_jobs_of_a_node_that_is_lost_are_lost_and_not_run_again(rig, slurm):
    backend = rig.open()
    await backend.submit(sleepers(rig, 1, extras={"nodelist": "n2"}))
    running = Phase.RUNNING
    await observe_until(backend, lambda now: now and now[0].phase is running, "it runs")
    slurm.run("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    try:
        [job] = await observe_until(backend, lambda now: not alive(now), "it is over")
    finally:
        slurm.wait_for(lambda: back(slurm, "n2"), "the node is back")
    assert (job.exit, job.node) == (Exit.LOST, "n2")
    assert "NODE_FAIL" in job.reason


@pytest.mark.parametrize(
    ("extras", "words"),
    [
        ({"partition": "nowhere"}, "invalid partition specified: nowhere"),
        ({"reservation": "none"}, "Requested reservation is invalid"),
        ({"constraint": "warp"}, "Invalid feature specification"),
        ({"nodelist": "n99"}, "Invalid node name specified"),
        ({"gres": "gpu:1"}, r"Invalid generic resource \(gres\) specification"),
        ({"arguments": ["--no-such-option"]}, "unrecognized option"),
        ({"partititon": "main"}, "partititon"),
        ({"arguments": ["--uid=0"]}, "--uid is set by the gateway"),
    ],
)
async def test_what_is_refused_is_told_in_slurms_words(rig, extras, words):
    backend = rig.open()
    with pytest.raises(Rejected, match=words):
        await backend.submit(sleepers(rig, 1, extras=extras))
    assert (await backend.observe()).jobs == ()


async def test_more_memory_than_any_node_has_is_refused(rig):
    with pytest.raises(Rejected, match="Memory specification can not be satisfied"):
        await rig.open().submit(sleepers(rig, 1, resources=Resources(memory=2**50)))


async def test_a_controller_that_hangs(rig, slurm):
    backend = rig.open(timeout=20.0)
    await backend.submit(sleepers(rig, 2))
    first = await observe_until(backend, count(2), "two run")
    batch = sleepers(rig, 2)
    with slurm.hanging_controller():
        with pytest.raises(Uncertain, match="Socket timed out"):
            await backend.submit(batch)
        with pytest.raises(Unavailable, match="Socket timed out"):
            await backend.observe()
        with pytest.raises(Unavailable, match="Socket timed out"):
            await backend.cancel(first)
    assert not (await backend.observe()).complete, "what was behind it may be yet to come"
    jobs = await observe_until(backend, count(4), "it was taken")
    assert {job.batch for job in jobs} == {first[0].batch, batch.id}
    assert (await backend.observe()).complete
    with pytest.raises(Uncertain, match="submitted before"):
        await backend.submit(batch)


async def test_a_command_that_takes_too_long_is_uncertain(rig, slurm):
    backend = rig.open(timeout=1.0)
    await backend.observe()
    with slurm.hanging_controller():
        with pytest.raises(Uncertain, match="did not end in time"):
            await backend.submit(sleepers(rig, 1))
        with pytest.raises(Unavailable, match="did not end in time"):
            await backend.observe()
        task = asyncio.ensure_future(backend.observe())
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await observe_until(backend, count(1), "it was taken all the same")


@pytest.mark.parametrize("fault", ["controller", "munge"])
async def test_what_cannot_be_reached_took_nothing(rig, slurm, fault):
    backend = rig.open()
    await backend.submit(sleepers(rig, 1))
    [first] = await observe_until(backend, alive, "one is there")
    batch = sleepers(rig, 1)
    with slurm.dead_controller() if fault == "controller" else slurm.dead_munge():
        for attempt in (backend.submit(batch), backend.observe(), backend.cancel([first])):
            with pytest.raises(Unavailable):
                await attempt
    await backend.submit(batch)
    await observe_until(backend, count(2), "both are there")


async def test_output_is_read_with_the_owners_rights(rig):
    backend = rig.open()
    await backend.submit(make_batch(rig, 1))
    [job] = await observe_until(backend, lambda now: now[0].phase is Phase.RUNNING, "it runs")
    await rig.seen(job)
    log = rig.logs / job.batch.tag / "0.log"
    assert log.stat().st_mode & 0o777 == 0o600
    secret = rig.directory / "secret"
    secret.write_text("of root")
    secret.chmod(0o600)
    log.rename(log.with_name("kept"))
    log.symlink_to(secret)
    assert await backend.logs(job, tail=100) == ""
    log.unlink()
    os.mkfifo(log, 0o666)
    impatient = rig.open(timeout=0.5)
    before = time.monotonic()
    assert await impatient.logs(job, tail=100) == ""
    assert time.monotonic() - before < 10
    await backend.forget(job.batch.cluster)
    assert not log.parent.exists()
    assert secret.exists()


async def test_without_slurm_it_says_so(rig):
    backend = rig.open()
    backend._commands._path = "/nowhere"
    with pytest.raises(Unavailable, match="no scontrol in /nowhere: is Slurm installed here"):
        await backend.observe()
    with pytest.raises(Unavailable, match="no scontrol"):
        await backend.submit(sleepers(rig, 1))
