"""What the local backend costs: start, look at, and end N jobs on this machine.

    python -m bench.local_backend [N] [Unix user]

Prints times in milliseconds, the longest stall of the event loop meanwhile, and the CPU seconds
that the server and its launchers used. Run it on a quiet machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from penstock.backends.local import LocalBackend
from penstock.model.ids import BatchId, new_cluster_name, new_gateway_id
from penstock.model.job import Batch, Job, Role

FILES = {"penstock_agent.py": b"#" * 60_000, "penstock.json": b"{}" * 3_000}


class Stall:
    """The longest time for which the event loop did not come round (seconds)."""

    def __init__(self) -> None:
        self.worst = 0.0

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        self.worst = 0.0
        task = asyncio.create_task(self._watch())
        await asyncio.sleep(0.01)
        try:
            yield
        finally:
            task.cancel()

    async def _watch(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            self.worst = max(self.worst, time.perf_counter() - before - 0.001)


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def launcher_cost(directory: Path, batch: Batch) -> tuple[float, int]:
    """(CPU seconds, private kB) of the batch's launcher."""
    head = json.loads((directory / batch.id.tag / "journal").read_text().splitlines()[0])
    fields = Path(f"/proc/{head['pid']}/stat").read_text().rpartition(")")[2].split()
    memory = Path(f"/proc/{head['pid']}/smaps_rollup").read_text()
    private = sum(int(line.split()[1]) for line in memory.splitlines() if "Private" in line)
    return (int(fields[11]) + int(fields[12])) / 100, private


async def run(count: int, owner: str, directory: Path) -> None:
    gateway = new_gateway_id()
    backend = LocalBackend("local", gateway, directory, allow_root=True, grace=0.0)
    try:
        await measure(backend, gateway, count, owner, directory)
    finally:
        while jobs := [job for job in (await backend.observe()).jobs if job.alive]:
            await backend.cancel(jobs)
            await asyncio.sleep(0.05)
        await backend.aclose()


async def measure(
    backend: LocalBackend, gateway: str, count: int, owner: str, directory: Path
) -> None:
    cluster, stall = new_cluster_name(), Stall()
    command = ("/bin/sleep", "1000")
    for sequence in range(5):
        batch = Batch(
            BatchId(gateway, cluster, sequence), owner, Role.WORKER, count, command, {}, FILES
        )
        async with stall.watched():
            before, used = time.perf_counter(), cpu()
            await backend.submit(batch)
            took = time.perf_counter() - before
        seconds, private = launcher_cost(directory, batch)
        print(
            f"submit  {count} jobs: {took * 1e3:6.1f} ms, loop stalled {stall.worst * 1e3:4.1f} ms, "
            f"CPU {cpu() - used:.3f} s server + {seconds:.2f} s launcher, {private} kB launcher"
        )
        jobs = await observe(backend, stall, count)
        before = time.perf_counter()
        await backend.cancel(jobs)
        told = time.perf_counter() - before
        while any(job.alive for job in (await backend.observe()).jobs):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        took = time.perf_counter() - before
        print(f"cancel  {count} jobs: {told * 1e3:6.1f} ms, gone after {took * 1e3:.1f} ms")
        await backend.forget(cluster)


async def observe(backend: LocalBackend, stall: Stall, count: int) -> list[Job]:
    times = []
    jobs: list[Job] = []
    async with stall.watched():
        for _ in range(20):
            before = time.perf_counter()
            jobs = [job for job in (await backend.observe()).jobs if job.alive]
            times.append(time.perf_counter() - before)
    assert len(jobs) == count
    times.sort()
    print(
        f"observe {count} jobs: {times[10] * 1e3:6.1f} ms median, {times[-1] * 1e3:.1f} ms worst, "
        f"loop stalled {stall.worst * 1e3:.1f} ms"
    )
    return jobs


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    owner = sys.argv[2] if len(sys.argv) > 2 else getpass.getuser()
    directory = Path(tempfile.mkdtemp(prefix="pk-bench-", dir="/tmp"))
    directory.chmod(0o711)
    try:
        asyncio.run(run(count, owner, directory / "jobs"))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
