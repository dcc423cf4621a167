"""What breaks between a gateway that is not root and its users' jobs, and what it is told then."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

import pytest

from penstock.backends.slurm.rest import Rest
from penstock.backends.slurm.sudo import Sudo
from penstock.backends.slurm.tokens import TokenFile
from penstock.model.errors import Absent, Rejected, Unavailable, Uncertain
from penstock.model.job import Phase, Resources
from rigs.backends import make_batch, observe_until, until
from rigs.slurm_acting import slurmrestd
from rigs.slurm_jobs import SlurmRig

SLEEP = b"import time; time.sleep(1000)"


@pytest.fixture(scope="module")
def daemon(slurm_cluster, unix_users):
    with slurmrestd(slurm_cluster) as daemon:
        daemon.keep("gateway", daemon.token("root"), "root")  # SlurmUser's, who may be anybody
        yield daemon


@pytest.fixture
async def rig(slurm, unix_users):
    rig = SlurmRig(slurm, unix_users[0])
    yield rig
    await rig.aclose()


@pytest.fixture(params=["sudo", "slurmrestd"])
def acting(request):
    """Makes one way, given how long it may take."""

    def make(seconds: float = 20.0):
        if request.param == "sudo":
            return Sudo(request.getfixturevalue("slurm_helper"), timeout=seconds)
        daemon = request.getfixturevalue("daemon")
        tokens = TokenFile(daemon.place / "gateway.token")
        return Rest(daemon.url, tokens, timeout=seconds)

    make.way = request.param
    return make


def sleepers(rig, count, **changes):
    return make_batch(rig, count, **{"files": {"probe.py": SLEEP}, **changes})


def alive(jobs):
    return {job.index for job in jobs if job.alive}


def count(number):
    """So many jobs live."""
    return lambda jobs: sum(job.alive for job in jobs) == number


async def test_jobs_are_submitted_cancelled_and_read(acting, rig):
    backend = rig.open(acting=acting())
    assert await backend.acting.check(rig.owner) == ""
    batch = make_batch(rig, 6)
    await backend.submit(batch)
    jobs = await observe_until(backend, lambda now: len(now) == 6, "six jobs")
    assert {job.owner for job in jobs} == {rig.owner}
    await rig.seen(jobs[0])
    output = await until_said(backend, jobs[0], acting.way)
    assert ("out of 0" in output) == (acting.way == "sudo")
    await backend.cancel([jobs[1], jobs[3], jobs[4]])
    await observe_until(backend, lambda now: alive(now) == {0, 2, 5}, "three are left")
    queued = sleepers(rig, 6, resources=Resources(cores=100), extras={"nodelist": "n1"})
    await backend.submit(queued)
    waiting = [job for job in (await backend.observe()).jobs if job.batch == queued.id]
    await backend.cancel([waiting[0], waiting[1], waiting[4]])
    await observe_until(backend, count(6), "three wait")
    jobs = (await backend.observe()).jobs
    await backend.cancel(jobs)
    await backend.cancel(jobs)
    await observe_until(backend, count(0), "none is left")
    await backend.forget(batch.id.cluster)
    assert (rig.logs / batch.id.tag).exists() == (acting.way == "slurmrestd")


async def until_said(backend, job, way):
    """The output, once there is some where there can be any."""
    text = ""
    deadline = time.monotonic() + 30
    while way == "sudo" and not text and time.monotonic() < deadline:
        text = await backend.logs(job, tail=1000)
    return text


async def test_one_worker_of_a_job_that_others_share_is_ended_by_a_signal(acting, rig):
    backend = rig.open(acting=acting())
    batch = make_batch(rig, 3, extras={"workers_per_job": 3})
    if acting.way == "slurmrestd":
        with pytest.raises(Rejected, match="several workers in one job cannot be had"):
            await backend.submit(batch)
        return
    await backend.submit(batch)
    jobs = await observe_until(
        backend, lambda now: {job.phase for job in now} == {Phase.RUNNING}, "they run"
    )
    assert len({job.native for job in jobs}) == 1
    await until(lambda: workers_of(batch) == {0, 1, 2} or None, "all have begun")
    await backend.cancel([jobs[1]])
    await until(lambda: workers_of(batch) == {0, 2} or None, "the others stay")


def workers_of(batch) -> set[int]:
    """Which workers of a batch have a process on this machine."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environ = (entry / "environ").read_bytes().split(b"\0")
            if f"PENSTOCK_TAG={batch.id.tag}".encode() in environ:
                [index] = [v for v in environ if v.startswith(b"PENSTOCK_INDEX=")]
                found.add(int(index.partition(b"=")[2]))
    return found


@pytest.mark.parametrize(
    ("extras", "words"),
    [
        ({"partition": "nowhere"}, "nvalid partition"),
        ({"constraint": "warp"}, "Invalid feature specification"),
        ({"arguments": ["--mail-user=x"]}, "--mail-user.*(not allowed here|cannot be said)"),
    ],
)
async def test_what_is_refused_is_told(acting, rig, extras, words):
    with pytest.raises(Rejected, match=words):
        await rig.open(acting=acting()).submit(sleepers(rig, 1, extras=extras))


async def test_root_and_strangers_have_no_jobs(acting):
    way = acting()
    for name, words in (("root", "must not run as root"), ("no-such-user", "there is no user")):
        with pytest.raises(Rejected, match=words):
            await way.submit(name, [], b"")
        assert words in await way.check(name)
    await way.aclose()


async def test_a_controller_that_hangs(acting, rig, slurm):
    backend, hasty = rig.open(acting=acting()), acting(1.0)
    await backend.submit(sleepers(rig, 2))
    first = await observe_until(backend, count(2), "two run")
    arrays = {first[0].native.partition("_")[0]: [0, 1]}
    batch = sleepers(rig, 2)
    while await hasty.check(rig.owner):  # slurmrestd takes a while to say what it speaks
        await asyncio.sleep(0.1)
    with slurm.hanging_controller():
        results = await asyncio.gather(
            backend.submit(batch),
            backend.acting.cancel(rig.owner, arrays),
            hasty.submit(rig.owner, words_of(rig), b"#!/bin/sh\n"),
            hasty.cancel(rig.owner, arrays),
            return_exceptions=True,
        )
        told = [(type(result), str(result)) for result in results]
        assert [kind for kind, _ in told] == [Uncertain, Unavailable, Uncertain, Unavailable]
        assert "Socket timed out" in told[0][1]
        assert not_cancelled(acting, slurm, "Socket timed out") in told[1][1]
        assert "in time" in told[2][1]
        assert "in time" in told[3][1]
        cut = asyncio.ensure_future(backend.acting.cancel(rig.owner, arrays))
        await asyncio.sleep(0.2)
        cut.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cut
    await hasty.aclose()
    jobs = await observe_until(
        backend, lambda now: batch.id in {job.batch for job in now if job.alive}, "it was taken"
    )
    assert len({job.native for job in jobs if job.batch == batch.id}) == 2
    if acting.way == "sudo":
        await until(lambda: not running_helpers() or None, "no helper outlives its time")


def not_cancelled(acting, slurm, words: str) -> str:
    """What is told of a cancellation: slurmrestd 24.11 says the same of every cause."""
    newer = acting.way == "slurmrestd" and slurm.programs is not None
    return "Operation not permitted" if newer else words


def running_helpers() -> list[str]:
    """Processes of the helper, whatever user they are."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if "pk-helper-" in (entry / "cmdline").read_text() and int(entry.name) != os.getpid():
                found.append(entry.name)
        except OSError:
            continue
    return found


async def test_a_controller_that_is_dead(acting, rig, slurm):
    backend = rig.open(acting=acting())
    await backend.submit(sleepers(rig, 1))
    [first] = await observe_until(backend, alive, "one is there")
    base = first.native.partition("_")[0]
    with slurm.dead_controller():
        with pytest.raises(Unavailable, match="Unable to contact slurm controller"):
            await backend.acting.submit(rig.owner, words_of(rig), b"#!/bin/sh\n")
        words = not_cancelled(acting, slurm, "Unable to contact slurm controller")
        with pytest.raises(Unavailable, match=words):
            await backend.acting.cancel(rig.owner, {base: [0]})
        if acting.way == "slurmrestd":
            assert "Unable to contact" in await backend.acting.check(rig.owner)
    await backend.submit(sleepers(rig, 1))
    await observe_until(backend, count(2), "both are there")
    assert first.phase in (Phase.QUEUED, Phase.RUNNING)


def words_of(rig):
    tag = sleepers(rig, 1).id.tag
    return ["--array=0-0", f"--comment={tag}", "--chdir=/", "--mem=10M", "--output=/dev/null"]


DENIED = {
    False: (Uncertain, "also said when a token is not valid"),
    True: (Absent, "did not accept the token"),
}
"""What a bad token comes to: 24.11 says so, 22.05 breaks off."""


async def test_tokens_that_are_not_good(daemon, rig):
    kind, denied = DENIED[daemon.cluster.programs is not None]
    path = daemon.keep("other", "", "root")
    way = Rest(daemon.url, TokenFile(path), timeout=20.0)

    async def told() -> str:
        with pytest.raises((Absent, Unavailable)) as caught:
            await way.submit(rig.owner, words_of(rig), b"#!/bin/sh\n")
        return str(caught.value)

    assert "no token of Slurm" in await told()
    old = daemon.token(rig.owner, 1)
    path.write_text(old)
    await until(lambda: _over(old) or None, "the token is over")
    assert "is over: it needs to be renewed" in await told()
    path.write_text("SLURM_JWT=a.b.c")
    with pytest.raises(kind, match=denied):
        await way.submit(rig.owner, words_of(rig), b"#!/bin/sh\n")
    path.chmod(0o644)
    assert "others can read or replace it" in await told()
    path.unlink()
    assert "No such file" in await told()
    await way.aclose()


def _over(token: str) -> bool:
    from penstock.backends.slurm.tokens import _expires

    return _expires(token.strip()) < time.time()


async def test_a_token_of_one_user_is_worth_nothing_for_another(daemon, rig, unix_users):
    path = daemon.keep("bob", daemon.token(unix_users[1]), "root")
    way = Rest(daemon.url, TokenFile(path), timeout=20.0)
    assert await way.check(unix_users[1]) == ""
    kind, denied = DENIED[daemon.cluster.programs is not None]
    assert ("Zero Bytes" if kind is Uncertain else denied) in await way.check(rig.owner)
    with pytest.raises(kind, match=denied):
        await way.submit(rig.owner, words_of(rig), b"#!/bin/sh\n")
    await way.aclose()


async def test_no_slurmrestd(daemon, rig):
    way = Rest(f"{daemon.url}-none", TokenFile(daemon.place / "gateway.token"), timeout=20.0)
    with pytest.raises(Unavailable, match="cannot be reached: No such file"):
        await way.submit(rig.owner, words_of(rig), b"#!/bin/sh\n")
    await way.aclose()
