"""Processes of the local backend: how they start, live without anybody, and end with all theirs."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.backends.local import LocalBackend, journal
from penstock.backends.local.proc import ProcessTable, look
from penstock.model.job import Exit, Job, Phase
from rigs.backends import LocalRig, make_batch, observe_until, until


def running(count: int):
    return lambda jobs: len([job for job in jobs if job.phase is Phase.RUNNING]) == count


def over(jobs: list[Job]) -> bool:
    return bool(jobs) and all(not job.alive for job in jobs)


def lives(pid: int) -> bool:
    process = look(pid)
    return process is not None and process.alive


def launcher_of(rig: LocalRig, job: Job) -> int:
    record = journal.parse((rig.jobs / job.batch.tag / "journal").read_bytes())
    assert record is not None
    return record.pid


async def start(
    rig: LocalRig, count: int = 1, *arguments: str, **changes: object
) -> tuple[LocalBackend, list[Job]]:
    backend = rig.open()
    await backend.submit(make_batch(rig, count, arguments=arguments, **changes))
    return backend, await observe_until(backend, running(count), f"{count} jobs run")


async def kill_launcher(rig: LocalRig, job: Job) -> None:
    pid = launcher_of(rig, job)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not lives(pid) or None, "the launcher is gone")


async def test_a_job_is_set_up_cleanly(rig: LocalRig) -> None:
    _, (job,) = await start(rig, 1, extras={"nice": 3})
    more = (await rig.seen(job)).more
    assert more["session"] == more["pid"] == int(job.native)
    assert (more["umask"], more["mode"], more["input"]) == (0o077, 0o700, "")
    assert more["directory"] == str(rig.place(job))
    assert more["descriptors"] == [0, 1, 2]
    assert more["nice"] == os.nice(0) + 3
    assert (rig.place(job) / "output.log").stat().st_mode & 0o777 == 0o600
    limits = resource.prlimit(int(job.native), resource.RLIMIT_CORE)
    assert limits == (0, 0)
    status = Path("/proc", job.native, "status").read_text()
    for line in ("SigBlk", "SigIgn"):
        bits = int(status.partition(f"\n{line}:")[2].split()[0], 16)
        ignored = {number for number in signal.valid_signals() if bits & 1 << (number - 1)}
        # Python itself, which this job is, ignores these two.
        assert ignored <= {signal.SIGPIPE, signal.SIGXFSZ}


async def test_nothing_secret_is_left_with_the_launcher(rig: LocalRig) -> None:
    _, (job,) = await start(rig, 1, env={"TOKEN": "very-secret"})
    proc = Path("/proc", str(launcher_of(rig, job)))
    for name in ("environ", "cmdline"):
        assert b"very-secret" not in proc.joinpath(name).read_bytes()
    assert {os.readlink(proc / "fd" / fd) for fd in ("0", "1")} == {"/dev/null"}


async def test_a_cancelled_job_takes_its_children_along(rig: LocalRig) -> None:
    backend, jobs = await start(rig, 2, "children")
    families = [await rig.file(job, "family.json") for job in jobs]
    await backend.cancel([jobs[0]])
    await until(lambda: not any(map(lives, families[0])) or None, "the family is gone")
    assert all(map(lives, families[1]))
    now = await observe_until(
        backend, lambda jobs: [job.alive for job in jobs] == [False, True], "one is left"
    )
    assert [job.exit for job in now] == [Exit.CANCELLED, None]


@pytest.mark.parametrize("code", [0, -9])
async def test_a_job_that_ends_takes_its_children_along(rig: LocalRig, code: int) -> None:
    backend, jobs = await start(rig, 2, "children")
    families = [await rig.file(job, "family.json") for job in jobs]
    await rig.finish(jobs[0], code)
    await observe_until(
        backend, lambda jobs: [job.alive for job in jobs] == [False, True], "one is left"
    )
    assert not any(map(lives, families[0]))
    assert all(map(lives, families[1]))


async def test_a_deaf_job_is_killed_after_the_grace(rig: LocalRig) -> None:
    backend = rig.open(grace=0.3)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('deaf', flush=True); time.sleep(1000)"
    )
    await backend.submit(make_batch(rig, command=("/usr/bin/python3", "-I", "-c", code)))
    (job,) = await observe_until(backend, running(1), "the job runs")
    log = rig.place(job) / "output.log"
    await until(lambda: log.read_text() == "deaf\n" or None, "it hears nothing")
    await backend.cancel([job])
    assert (await backend.observe()).jobs[0].phase is Phase.ENDING
    (job,) = await observe_until(backend, over, "it was killed")
    assert (job.exit, job.exit_code) == (Exit.CANCELLED, 137)


async def test_a_stopped_job_hears_the_request_to_end(rig: LocalRig) -> None:
    backend, (job,) = await start(rig)
    await rig.seen(job)
    os.kill(int(job.native), signal.SIGSTOP)
    await backend.cancel([job])
    (job,) = await observe_until(backend, over, "it ended")
    assert (job.exit, job.exit_code) == (Exit.CANCELLED, 143)


async def test_jobs_outlive_their_launcher(rig: LocalRig) -> None:
    backend, jobs = await start(rig, 3, "children")
    families = [await rig.file(job, "family.json") for job in jobs]
    await kill_launcher(rig, jobs[0])
    assert await observe_until(backend, running(3), "all run still") == jobs
    assert await observe_until(rig.open(), running(3), "a new server sees them too") == jobs
    await backend.cancel([jobs[0]])
    await until(lambda: not any(map(lives, families[0])) or None, "the family is gone")
    await rig.finish(jobs[1], 5)
    now = await observe_until(
        backend, lambda jobs: [job.alive for job in jobs] == [False, False, True], "one is left"
    )
    assert [(job.exit, job.exit_code) for job in now] == [
        (Exit.CANCELLED, None),
        (Exit.LOST, None),
        (None, None),
    ]
    assert "launcher was killed" in now[1].reason
    # Nobody is the parent of its children any more; they were known while it lived.
    await until(lambda: not any(map(lives, families[1])) or None, "its family is gone")
    assert all(map(lives, families[2]))


async def test_a_reused_pid_is_nobody_of_ours(rig: LocalRig) -> None:
    backend, (job,) = await start(rig)
    await rig.seen(job)
    await kill_launcher(rig, job)
    await rig.finish(job, 0)
    await observe_until(backend, over, "it ended")
    with subprocess.Popen(["/bin/sleep", "1000"]) as stranger:
        path = rig.jobs / job.batch.tag / "journal"
        lines = path.read_text().splitlines()
        entry = json.loads(lines[1])
        path.write_text(f"{lines[0]}\n{json.dumps({**entry, 'pid': stranger.pid})}\n")
        (job,) = (await rig.open().observe()).jobs
        assert (job.native, job.exit) == (str(stranger.pid), Exit.LOST)
        await backend.cancel([dataclasses.replace(job, phase=Phase.RUNNING)])
        assert stranger.poll() is None
        stranger.kill()


async def test_a_job_without_a_directory_is_found_by_its_tag(rig: LocalRig) -> None:
    backend, (job,) = await start(rig)
    await rig.seen(job)
    hidden = rig.directory / "hidden"
    (rig.jobs / job.batch.tag).rename(hidden)
    (found,) = (await rig.open().observe()).jobs
    assert (found.batch, found.index, found.native) == (job.batch, 0, job.native)
    assert (found.owner, found.phase) == (rig.owner, Phase.RUNNING)
    await backend.cancel([found])
    await until(lambda: not lives(int(job.native)) or None, "it ended")
    hidden.rename(rig.jobs / job.batch.tag)


async def test_jobs_survive_the_process_group_of_the_server(rig: LocalRig) -> None:
    code = """
import asyncio, pickle, sys
from pathlib import Path
from penstock.backends.local import LocalBackend
batch, gateway, directory = pickle.load(sys.stdin.buffer)
backend = LocalBackend("local", gateway, directory, allow_root=True)
asyncio.run(backend.submit(batch))
print("up", flush=True)
sys.stdin.read()
"""
    server = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(pickle.dumps((make_batch(rig, 2), rig.gateway, rig.jobs)))
        server.stdin.flush()
        assert server.stdout.readline() == b"up\n"
        os.killpg(server.pid, signal.SIGKILL)
    backend = rig.open()
    jobs = await observe_until(backend, running(2), "both run without a server")
    await rig.finish(jobs[0], 7)
    now = await observe_until(backend, lambda jobs: not jobs[0].alive, "one ended")
    assert (now[0].exit, now[0].exit_code) == (Exit.FAILED, 7)


async def test_the_launcher_leaves_when_its_jobs_have(rig: LocalRig) -> None:
    backend, jobs = await start(rig, 2)
    pid = launcher_of(rig, jobs[0])
    for job in jobs:
        await rig.finish(job, 0)
    await observe_until(backend, over, "both ended")
    await until(lambda: not lives(pid) or None, "the launcher is gone")
    await backend.forget(jobs[0].batch.cluster)
    assert list(rig.jobs.glob("p-*")) == []


async def test_running_jobs_are_not_forgotten(rig: LocalRig) -> None:
    backend, (job,) = await start(rig)
    with pytest.raises(Exception, match="still run"):
        await backend.forget(job.batch.cluster)
    assert running(1)((await backend.observe()).jobs)


async def test_ended_jobs_leave_the_snapshot_later(rig: LocalRig) -> None:
    backend = rig.open(recent=0.0)
    await backend.submit(make_batch(rig))
    (job,) = await observe_until(backend, running(1), "the job runs")
    await rig.finish(job, 0)
    assert await observe_until(backend, lambda jobs: not jobs, "it is old news") == []
    assert await backend.logs(job, tail=100)


async def test_long_paths(rig: LocalRig) -> None:
    """A Unix socket's own path may have 107 bytes; ours may not be limited by that."""
    rig.jobs = rig.directory / ("d" * 100) / ("e" * 100)
    backend = rig.open()
    changes = backend.changes()
    told = asyncio.ensure_future(anext(changes))
    await backend.submit(make_batch(rig))
    (job,) = await observe_until(backend, running(1), "the job runs")
    await rig.finish(job, 0)
    await asyncio.wait_for(told, 30)
    await backend.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(changes)
    assert [path.name for path in rig.jobs.iterdir()] == [job.batch.tag]


async def test_many_jobs_in_one_look(rig: LocalRig) -> None:
    backend = rig.open()
    batch = make_batch(rig, 60, command=("/bin/sleep", "1000"))
    await backend.submit(batch)
    jobs = await observe_until(backend, running(60), "sixty run")
    table = ProcessTable().scan()
    assert {table[int(job.native)].index for job in jobs} == set(range(60))
    await backend.cancel(jobs)
    await observe_until(backend, over, "all ended")
