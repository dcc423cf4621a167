"""Killed while it starts a batch: the launcher, or the server. Everything or nothing, and once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest

from penstock.backends.local import LocalBackend
from penstock.backends.local.proc import ProcessTable, look
from penstock.model.errors import Uncertain
from penstock.model.job import Batch, Job
from rigs.backends import LocalRig, make_batch, observe_until, until

COUNT = 8


def tagged(batch: Batch) -> list[int]:
    """Living processes that carry the tag: launcher and jobs alike."""
    table = ProcessTable().scan()
    return [pid for pid, found in table.items() if found.tag == batch.id.tag and found.alive]


def launchers(batch: Batch) -> list[int]:
    """Those among them that no other started: jobs on their way to their program look alike."""
    found = {pid: each for pid, each in ProcessTable().scan().items() if each.tag == batch.id.tag}
    return [pid for pid, each in found.items() if each.alive and each.ppid not in found]


def jobs_in_proc(batch: Batch) -> set[int]:
    table = ProcessTable().scan().values()
    tag = batch.id.tag
    return {process.pid for process in table if process.tag == tag and process.index is not None}


async def settled(batch: Batch) -> None:
    """Until all jobs run, or nobody is there who could start any.

    A launcher carries its tag from its exec on, so nobody must be seen for a while.
    """
    nobody = 0
    while nobody < 20 and len(jobs_in_proc(batch)) < COUNT:
        nobody = 0 if tagged(batch) else nobody + 1
        await asyncio.sleep(0.02)


async def everything_or_nothing(backend: LocalBackend, batch: Batch) -> list[Job]:
    """All jobs run, or none ever will; what runs is on record."""
    await settled(batch)
    jobs = [job for job in (await backend.observe()).jobs if job.batch == batch.id and job.alive]
    assert len(jobs) in (0, COUNT)
    assert jobs_in_proc(batch) == {int(job.native) for job in jobs}
    with pytest.raises(Uncertain):
        await backend.submit(batch)
    return jobs


async def end(backend: LocalBackend, batch: Batch, jobs: list[Job]) -> None:
    await backend.cancel(jobs)
    await until(lambda: not tagged(batch) or None, "nothing is left")


class Stillborn(subprocess.Popen[bytes]):
    """A launcher that is killed before it has read what to start."""

    def communicate(self, *words: object, **more: object) -> tuple[bytes, bytes]:  # type: ignore[override]
        self.kill()
        return super().communicate(*words, **more)  # type: ignore[arg-type]


async def killed_launcher(backend: LocalBackend, batch: Batch, submit: asyncio.Task[None]) -> int:
    """How many jobs there are after the launcher was killed, or has ended by itself."""
    for pid in launchers(batch):
        with contextlib.suppress(ProcessLookupError):  # the one that only starts the launcher
            os.kill(pid, signal.SIGKILL)
    result = (await asyncio.gather(submit, return_exceptions=True))[0]
    assert result is None or type(result) is Uncertain, result
    if isinstance(result, Uncertain):
        assert "the launcher died before it said whether the jobs run" in str(result)
    jobs = await everything_or_nothing(backend, batch)
    if result is None:
        assert len(jobs) == COUNT
    await end(backend, batch, jobs)
    return len(jobs)


async def test_the_launcher_killed_at_any_moment(
    rig: LocalRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = rig.open(grace=0.0)
    for attempt in range(14):
        batch = make_batch(rig, COUNT, command=("/bin/sleep", "1000"))
        submit = asyncio.create_task(backend.submit(batch))
        await until(lambda batch=batch: tagged(batch) or None, "the launcher runs", pause=0.001)  # type: ignore[misc]
        await asyncio.sleep(attempt * 0.005)
        await killed_launcher(backend, batch, submit)
    monkeypatch.setattr(subprocess, "Popen", Stillborn)
    batch = make_batch(rig, COUNT, command=("/bin/sleep", "1000"))
    submit = asyncio.create_task(backend.submit(batch))
    await asyncio.wait({submit})
    monkeypatch.undo()
    assert await killed_launcher(backend, batch, submit) == 0


SERVER = """
import asyncio, pickle, sys
from penstock.backends.local import LocalBackend
batch, gateway, directory = pickle.load(sys.stdin.buffer)
backend = LocalBackend("local", gateway, directory, allow_root=True)
print("go", flush=True)
asyncio.run(backend.submit(batch))
print("done", flush=True)
sys.stdin.read()
"""


async def test_the_server_killed_at_any_moment(rig: LocalRig) -> None:
    backend = rig.open(grace=0.0)
    for attempt in range(10):
        batch = make_batch(rig, COUNT, command=("/bin/sleep", "1000"))
        command = [sys.executable, "-c", SERVER]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(pickle.dumps((batch, rig.gateway, rig.jobs)))
            server.stdin.flush()
            assert server.stdout.readline() == b"go\n"
            time.sleep(attempt * 0.012)
            os.killpg(server.pid, signal.SIGKILL)
        place = rig.jobs / batch.id.tag
        if not place.exists():  # killed before it began: it may begin again
            await backend.submit(batch)
        jobs = await everything_or_nothing(backend, batch)
        await end(backend, batch, jobs)


async def test_a_request_cut_short_starts_nothing(rig: LocalRig) -> None:
    """The server died while it told the launcher what to do."""
    backend = rig.open()
    batch = make_batch(rig)
    place = rig.jobs / batch.id.tag
    place.mkdir(parents=True)
    command = [sys.executable, "-I", "-S", "-c", BOOT, *sys.path]
    with subprocess.Popen(
        command,
        cwd=place,
        env={"PENSTOCK_TAG": batch.id.tag},
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as launcher:
        assert launcher.stdin is not None
        launcher.stdin.write(b'{"tag": "p-')
        launcher.stdin.close()
    await until(lambda: not tagged(batch) or None, "the launcher gave up")
    assert (await backend.observe()).jobs == ()
    assert list(place.iterdir()) == []


BOOT = """
import sys
sys.path += sys.argv[1:]
from penstock.backends.launcher.main import main
main()
"""


async def test_an_unfinished_batch_does_not_start_late(rig: LocalRig) -> None:
    """After the visibility delay absence must prove something: a slow launcher gives up."""
    backend = rig.open(visibility=0.0)
    batch = make_batch(rig)
    with pytest.raises(Exception, match="not ready in time"):
        await backend.submit(batch)
    assert tagged(batch) == []
    assert (await backend.observe()).jobs == ()
    assert not (rig.jobs / batch.id.tag).exists()


async def test_the_launcher_stays_light() -> None:
    """One runs for each batch, so it imports the standard library and its own few modules."""
    code = (
        "import sys; sys.path += sys.argv[1:]; import penstock.backends.launcher.main; "
        "print('\\n'.join(sys.modules))"
    )
    command = [sys.executable, "-I", "-S", "-c", code, *sys.path]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    ours = [name for name in names if name.startswith("penstock")]
    allowed = ("penstock", "penstock.backends", "penstock.backends.launcher")
    assert all(name in allowed or name.startswith(f"{allowed[-1]}.") for name in ours), ours
    assert not {"dataclasses", "asyncio", "typing_extensions", "pydantic"} & set(names)
    assert len(names) < 120


async def test_a_machine_that_was_restarted(rig: LocalRig) -> None:
    backend = rig.open()
    await backend.submit(make_batch(rig))
    (job,) = await observe_until(backend, bool, "it runs")
    await backend.cancel([job])
    await observe_until(backend, lambda jobs: not jobs[0].alive, "it ended")
    path = rig.jobs / job.batch.tag / "journal"
    await until(lambda: path.read_text().count("code") or None, "its end is written down")
    head, entry = path.read_text().splitlines()[:2]
    me = look(os.getpid())
    assert me is not None
    head = head.replace('"boot": "', '"boot": "another-')
    entry = entry.replace(f'"pid": {job.native}', f'"pid": {me.pid}')
    path.write_text(f"{head}\n{entry}\n")
    (path.parent / "cancelled").unlink()
    (job,) = (await rig.open().observe()).jobs
    assert job.reason == "this machine was restarted"
    await backend.cancel([job])  # which would end the tests
