"""What is said, and what is left behind, when processes die and environments are broken."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest

from rigs.agents import Job, Rig, go_on, line, own_python, until
from rigs.environments import environment

both = pytest.mark.parametrize("python", ["newest", "old"], indirect=True)


@both
async def test_a_killed_scheduler_is_reported_with_its_output(rig: Rig) -> None:
    scheduler = await rig.scheduler()
    worker = await rig.worker(nanny=True)
    heard = len(rig.server.said("report"))  # its nanny learns of its start a little later
    await until(lambda: len(rig.server.said("report")) > heard, "a report")
    scheduler.child().send_signal(signal.SIGKILL)
    assert await scheduler.wait() == 137
    [report] = rig.server.exits
    assert report["job"] == "s0-0"
    assert report["code"] == 137
    assert "SIGKILL" in str(report["reason"]) or "out of memory" in str(report["reason"])
    assert "Scheduler at:" in str(report["tail"])
    assert await worker.wait() == 0  # its scheduler is gone for good: it ends, and is no failure
    assert "the scheduler closed this worker, or is gone" in worker.log
    assert len(rig.server.exits) == 1


async def test_a_killed_worker_is_reported(rig: Rig) -> None:
    await rig.scheduler()
    worker = await rig.worker(3, 4)
    worker.child().send_signal(signal.SIGSEGV)
    assert await worker.wait() == 139
    [report] = rig.server.exits
    assert (report["job"], report["code"]) == ("w3-4", 139)
    assert report["reason"] == "killed (SIGSEGV)"
    assert "Registered to:" in str(report["tail"])
    await until(lambda: not rig.server.workers, "the removal")


async def test_a_nanny_replaces_its_worker(rig: Rig) -> None:
    await rig.scheduler()
    job = await rig.worker(nanny=True)
    worker = _worker_process(job)
    worker.send_signal(signal.SIGKILL)
    await until(lambda: not worker.is_running() and rig.server.last["workers"] == 1, "a new one")
    assert rig.server.exits == []


@pytest.mark.parametrize("nanny", [True, False])
async def test_sigterm_leaves_nothing(rig: Rig, nanny: bool) -> None:
    scheduler = await rig.scheduler()
    worker = await rig.worker(nanny=nanny)
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.wait() == 0
    await until(lambda: not rig.server.workers, "the removal")
    scheduler.process.send_signal(signal.SIGTERM)
    assert await scheduler.wait() == 0
    assert rig.server.said("terminated")[0]["reason"] == "the job was told to end (SIGTERM)"
    assert rig.server.exits == []
    said = {report["job"]: report["tail"] for report in rig.server.last_words}
    assert "closing: the job was told to end" in said["w1-0"]
    assert "closing: the job was told to end" in said["s0-0"]


@both
async def test_a_worker_told_to_end_hands_its_data_over(rig: Rig) -> None:
    await rig.scheduler()
    first = await rig.worker(1, 0, nanny=True)
    await rig.worker(1, 1)
    calls = rig.directory / "calls"
    script = (
        f"f = client.submit(lambda: open({str(calls)!r}, 'a').write('x'), workers='w1-0',\n"
        "    allow_other_workers=True)\n"
        "f.result(); print('ready'); input(); print(f.result())\n"
    )
    async with rig.client(script) as client:
        assert await line(client) == "ready"
        first.process.send_signal(signal.SIGTERM)
        assert await first.wait() == 0
        await go_on(client)
        assert await line(client) == "1"
    assert calls.read_text() == "x"  # not computed again


@both
async def test_nothing_outlives_a_killed_supervisor(rig: Rig) -> None:
    scheduler = await rig.scheduler()
    worker = await rig.worker(nanny=True)
    for job in (worker, scheduler):
        assert len(job.processes()) >= 2
        job.process.send_signal(signal.SIGKILL)
        assert await job.wait() == -signal.SIGKILL
    assert rig.server.exits == []


@pytest.mark.parametrize("nanny", [True, False])
async def test_a_worker_that_finds_no_scheduler_says_so(rig: Rig, nanny: bool) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"tls://127.0.0.1:{closed.getsockname()[1]}"
    config = rig.config("worker", 1, nthreads=1, memory=2**29, nanny=nanny, give_up=3)
    env = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "1s"}
    job = await rig.start({**config, "scheduler_address": address}, env=env)
    assert await job.wait() == 1
    [report] = rig.server.exits
    assert f"could not join the scheduler at {address}" in str(report["reason"])


@pytest.mark.parametrize("nanny", [True, False])
async def test_a_worker_whose_time_is_over_ends_by_itself(rig: Rig, nanny: bool) -> None:
    await rig.scheduler()
    # Long enough to be in a report, which a slow machine makes late.
    worker = await rig.worker(nanny=nanny, lifetime=8, lifetime_stagger=0)
    assert await worker.wait() == 0
    await until(lambda: not rig.server.workers, "the removal")
    assert rig.server.exits == []


class TestBroken:
    """Environments that cannot run Dask are told exactly."""

    async def report(self, rig: Rig, python: Path, **env: str) -> str:
        rig.python = python
        job = await rig.start(rig.config("scheduler", 0), env=env)
        code = await job.wait()
        [report] = rig.server.exits
        assert report["code"] == code
        assert str(report["reason"]) in job.log
        assert code == 78
        return str(report["reason"])

    async def test_no_distributed(self, rig: Rig) -> None:
        python = environment("empty")
        reason = await self.report(rig, python)
        assert reason.startswith(f"no distributed in {python} (Python ")
        assert reason.endswith("): install dask and distributed there")

    async def test_distributed_that_does_not_import(self, rig: Rig) -> None:
        fake = rig.directory / "fake" / "distributed"
        fake.mkdir(parents=True)
        (fake / "__init__.py").write_text("import no_such_library")
        reason = await self.report(rig, own_python(), PYTHONPATH=str(fake.parent))
        assert (
            "cannot be imported: ModuleNotFoundError: No module named 'no_such_library'" in reason
        )

    async def test_distributed_that_is_too_old(self, rig: Rig) -> None:
        fake = rig.directory / "fake" / "distributed"
        fake.mkdir(parents=True)
        (fake / "__init__.py").write_text("__version__ = '2021.12.0'")
        reason = await self.report(rig, own_python(), PYTHONPATH=str(fake.parent))
        assert reason.startswith(f"distributed 2021.12.0 in {sys.executable} ")
        assert reason.endswith("is too old: 2022.1 or newer is needed")

    async def test_a_report_waits_for_the_server(self, rig: Rig) -> None:
        await rig.server.stop()
        rig.python = environment("empty")
        job = await rig.start(rig.config("worker", 2, scheduler_address="tls://127.0.0.1:1"))
        await until(lambda: "no distributed" in job.log, "the child's end")
        await rig.server.start()
        assert await job.wait() == 78
        assert [report["job"] for report in rig.server.exits] == ["w2-0"]

    async def test_a_config_that_makes_no_sense(self, rig: Rig) -> None:
        job = await rig.start({"role": "scheduler"})
        assert await job.wait() == 78
        assert "penstock.json: cluster must be str" in job.log


def _worker_process(job: Job) -> psutil.Process:
    """The worker below a nanny: the one that is neither supervisor, nanny nor tracker."""
    [found] = [
        process
        for process in job.child().children()
        if not any("resource_tracker" in word for word in process.cmdline())
    ]
    return found
