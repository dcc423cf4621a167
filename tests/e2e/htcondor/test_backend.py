"""The backend alone on a real pool: what is only true there, and what breaks only there."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pwd
import signal
import time

import pytest

from penstock.model.errors import Absent, Full, Rejected, Unavailable, Uncertain
from penstock.model.job import Exit, Phase, Resources
from rigs.backends import make_batch, observe_until
from rigs.condor import DOMAIN
from rigs.condor_jobs import CondorRig

SLEEP = b"import time; time.sleep(1000)"
IMPOSSIBLE = {"requirements": 'Name == "nowhere"'}


@pytest.fixture
async def rig(condor, unix_users):
    rig = CondorRig(condor, unix_users[0])
    yield rig
    await rig.aclose()


@pytest.fixture
async def each_rig(each_condor, unix_users):
    rig = CondorRig(each_condor, unix_users[0])
    yield rig
    await rig.aclose()


def sleepers(rig, count, **changes):
    return make_batch(rig, count, **{"files": {"probe.py": SLEEP}, **changes})


def alive(jobs):
    return {job.index for job in jobs if job.alive}


def in_phase(phase, count=1):
    return lambda jobs: [job.phase for job in jobs] == [phase] * count


async def test_many_jobs_are_one_submission_and_one_removal(rig, condor):
    backend = rig.open()
    batch = sleepers(rig, 300, resources=Resources(memory=2**20), extras=IMPOSSIBLE)
    await backend.submit(batch)
    jobs = (await backend.observe()).jobs
    assert {job.index for job in jobs} == set(range(300))
    assert {job.batch for job in jobs} == {batch.id}
    assert len({job.native.partition(".")[0] for job in jobs}) == 1
    wanted = [job for job in jobs if job.index not in (0, 7, 299)]
    await backend.cancel(wanted)
    left = await observe_until(backend, lambda now: alive(now) == {0, 7, 299}, "three are left")
    assert {job.exit for job in left if not job.alive} == {Exit.CANCELLED}
    forged = dataclasses.replace(next(job for job in left if job.alive), owner="somebody")
    await backend.cancel([forged])
    assert alive((await backend.observe()).jobs) == {0, 7, 299}


async def test_waiting_and_held_jobs_say_why(rig, condor):
    backend = rig.open()
    await backend.submit(sleepers(rig, 2, extras=IMPOSSIBLE))
    jobs = await observe_until(backend, lambda now: len(now) == 2 and now[0].reason, "they wait")
    assert {job.phase for job in jobs} == {Phase.QUEUED}
    assert "no match found" in jobs[0].reason
    assert abs(jobs[0].submitted - time.time()) < 60
    condor.run("condor_hold", jobs[1].native, user=rig.owner)
    [_, held] = await observe_until(backend, lambda now: now[1].phase is Phase.HELD, "held")
    assert held.reason == f"via condor_hold (by user {rig.owner})"
    await asyncio.sleep(0)
    condor.run("condor_release", held.native, user=rig.owner)
    await observe_until(backend, in_phase(Phase.QUEUED, 2), "it is released, and waits")


async def test_no_run_is_repeated(each_rig, each_condor):
    """Evicted, held, over its time, or with its shadow killed: gone, with the reason, and for good."""
    rig, condor = each_rig, each_condor
    backend = rig.open()
    batch = sleepers(rig, 4)
    await backend.submit(batch)
    await backend.submit(sleepers(rig, 1, extras={"time": 1}))
    jobs = await observe_until(backend, in_phase(Phase.RUNNING, 5), "all run", seconds=60)
    ours = {job.index: job.native for job in jobs if job.batch == batch.id}
    condor.run("condor_vacate_job", "-fast", ours[0], user=rig.owner)
    condor.run("condor_hold", ours[1], user=rig.owner)
    for pid, program in condor.processes().items():
        if program == "condor_shadow":
            with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/cmdline", "rb") as file:
                if ours[2].encode() in file.read().split(b"\0"):
                    os.kill(pid, signal.SIGKILL)
    left = await observe_until(
        backend, lambda now: sum(job.alive for job in now) == 1, "one is left", seconds=60
    )
    ends = {job.index: (job.exit, job.reason) for job in left if job.batch == batch.id}
    assert ends[0][0] is Exit.PREEMPTED
    assert (ends[1][0], "via condor_hold" in ends[1][1]) == (Exit.CANCELLED, True)
    assert ends[2][0] is Exit.LOST
    assert ends[3][0] is None
    [timed] = [job for job in left if job.batch != batch.id]
    assert timed.exit is Exit.TIME_LIMIT
    condor.wait_for(lambda: len(condor.living()) == 1, "HTCondor removed them itself")
    after = await backend.observe()
    assert {job.index: job.exit for job in after.jobs if job.batch == batch.id} == {
        index: exit for index, (exit, _) in ends.items()
    }
    starts = condor.queue("NumShadowStarts", constraint=f'PenstockTag == "{batch.id.tag}"')
    assert {ad["NumShadowStarts"] for ad in starts} == {1}


async def test_a_schedd_that_hangs(rig, condor):
    backend = rig.open(timeout=3.0)
    await backend.submit(sleepers(rig, 2, extras=IMPOSSIBLE))
    first = (await backend.observe()).jobs
    batch = sleepers(rig, 2, extras=IMPOSSIBLE)
    with condor.hanging("schedd"):
        with pytest.raises(Uncertain, match="did not end in time"):
            await backend.submit(batch)
        with pytest.raises(Unavailable, match="did not end in time"):
            await backend.observe()
        with pytest.raises(Unavailable, match="did not end in time"):
            await backend.cancel(first)
    assert not (await backend.observe()).complete, "what was behind it may be yet to come"
    snapshot = await backend.observe()
    assert snapshot.complete
    assert len(snapshot.jobs) in (2, 4), "all of it or nothing"
    with pytest.raises(Uncertain, match="submitted before"):
        await backend.submit(batch)


async def test_a_schedd_that_is_away_took_nothing(rig, condor):
    backend = rig.open()
    await backend.submit(sleepers(rig, 1, extras=IMPOSSIBLE))
    [first] = (await backend.observe()).jobs
    batch = sleepers(rig, 1, extras=IMPOSSIBLE)
    with condor.without("schedd"):
        for attempt in (backend.submit(batch), backend.observe(), backend.cancel([first])):
            with pytest.raises(Unavailable, match="HTCondor"):
                await attempt
    await backend.submit(batch)
    await observe_until(backend, in_phase(Phase.QUEUED, 2), "both are there")


@pytest.mark.parametrize(
    ("extras", "words"),
    [
        ({"concurrency_limits": "a:1:2"}, "concurrency_limits: "),
        ({"requirements": "1 +"}, "Parse error in expression"),
        ({"submit": {"x509userproxy": "/nowhere"}}, "unable to read proxy file"),
        ({"requirement": "true"}, "requirement: Extra inputs"),
        ({"attributes": {"Owner": "root"}}, "Owner is set by the gateway"),
    ],
)
async def test_what_is_refused_is_told_in_htcondors_words(rig, extras, words):
    backend = rig.open()
    with pytest.raises(Rejected, match=words):
        await backend.submit(sleepers(rig, 1, extras=extras))
    assert (await backend.observe()).jobs == ()
    assert not list(rig.directory.glob("files/*/*")), "nothing of it stays"


async def test_more_than_the_schedd_takes(rig, condor):
    """Of one user, and at once: neither is a refusal of the jobs."""
    backend = rig.open()
    for limit in ("MAX_JOBS_PER_OWNER", "MAX_JOBS_PER_SUBMISSION"):
        with condor.configured(**{limit: "2"}), pytest.raises(Full, match=limit):
            await backend.submit(sleepers(rig, 3, extras=IMPOSSIBLE))
    assert (await backend.observe()).jobs == ()


async def test_output_comes_back_and_is_its_users(each_rig):
    rig = each_rig
    backend = rig.open()
    await backend.submit(make_batch(rig, 1))
    [job] = await observe_until(backend, in_phase(Phase.RUNNING), "it runs")
    await rig.seen(job)
    await rig.finish(job, 0)
    await observe_until(backend, in_phase(Phase.EXITED), "it ended")
    log = rig.directory / "files" / rig.owner / job.batch.tag / "0.log"
    assert log.parent.stat().st_mode & 0o777 == 0o700
    secret = rig.directory / "secret"
    secret.write_text("of root")
    secret.chmod(0o600)
    log.rename(log.with_name("kept"))
    log.symlink_to(secret)
    assert await backend.logs(job, tail=100) == ""
    await backend.forget(job.batch.cluster)
    assert not log.parent.exists()
    assert secret.exists()


@pytest.mark.parametrize("way", ["itself", "behalf", "token"])
async def test_acting_for_two_users_mixes_nothing_up(condor, unix_users, way):
    """One server process, jobs of two, whose files travel by the network."""
    rig = CondorRig(condor, unix_users[0], way)
    backend = rig.open(schedd=condor.schedd, spool=True)
    batches = [make_batch(rig, 2, owner=user) for user in unix_users]
    try:
        await asyncio.gather(*(backend.submit(batch) for batch in batches))
        jobs = await observe_until(backend, in_phase(Phase.RUNNING, 4), "four run", seconds=60)
        owners = {batch.id: batch.owner for batch in batches}
        assert all(job.owner == owners[job.batch] for job in jobs)
        seen = await asyncio.gather(*(rig.seen(job) for job in jobs))
        uids = {job.owner: one.more["uids"][0] for job, one in zip(jobs, seen, strict=True)}
        assert uids == {user: pwd.getpwnam(user).pw_uid for user in unix_users}
        assert (await backend.logs(jobs[0], tail=100)).startswith("out of ")
        await rig.finish(jobs[0], 3)
        await observe_until(backend, lambda now: sum(job.alive for job in now) == 3, "one ended")
        assert (await backend.logs(jobs[0], tail=100)).startswith("out of ")
        await backend.cancel([job for job in jobs if job.batch != jobs[0].batch])
        left = await observe_until(
            backend, lambda now: sum(job.alive for job in now) == 1, "one is left"
        )
        assert {job.batch for job in left if job.alive} == {jobs[0].batch}
    finally:
        await rig.aclose()


async def test_tokens_are_kept_to_oneself_and_renewed(condor, unix_users):
    rig = CondorRig(condor, unix_users[0], "token")
    try:
        backend = rig.open(lifetime=3600.0)
        await backend.submit(sleepers(rig, 1, extras=IMPOSSIBLE))
        token = rig.directory / "notes" / "tokens" / rig.owner / "token"
        assert token.stat().st_mode & 0o777 == 0o600
        assert token.parent.stat().st_mode & 0o777 == 0o700
        first = token.read_text()
        await backend.submit(sleepers(rig, 1, extras=IMPOSSIBLE))
        assert token.read_text() == first
        os.utime(token, (0, 0))
        await backend.submit(sleepers(rig, 1, extras=IMPOSSIBLE))
        assert token.read_text() != first
        token.write_text("no.such.token\n")
        with pytest.raises(Absent, match="authenticate"):
            await backend.submit(sleepers(rig, 1, extras=IMPOSSIBLE))
        await backend.submit(sleepers(rig, 1, extras=IMPOSSIBLE))
        shown = condor.run("condor_q", "-allusers", "-long").stdout
        assert f'User = "{rig.owner}@{DOMAIN}"' in shown
        assert first.strip() not in shown
    finally:
        await rig.aclose()


async def test_without_htcondor_it_says_so(rig):
    backend = rig.open()
    backend._commands._path = "/nowhere"
    with pytest.raises(Unavailable, match="no condor_q in /nowhere: is HTCondor installed here"):
        await backend.observe()
