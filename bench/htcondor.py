"""Clusters on a real HTCondor pool: ours beside dask-jobqueue and single submissions, in one run.

    python -m bench.htcondor [--rounds 3] [--steady 30] [--version 23.9] [--json FILE]

The server runs as root and acts for a user; the notebook and dask-jobqueue are processes of that user.
Schedulers are real, workers only sleep, so what is measured is the way from ``scale`` to jobs in the
queue and back. CPU time is that of the server with all commands that it ran. HTCondor's own floor
(a bare ``condor_submit`` with ``queue N``) is measured beside. Needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from bench.htcondor_variants import Child, Pool, Server, jobqueue, notebook, penstock

from rigs.condor import Condor

CPUS = 256
SIZES = (100, 300)
LARGE = 1000
STEADY_CLUSTERS, STEADY_WORKERS = 20, 50
RUNNING = "JobStatus =?= 2"
LEAVING = "JobStatus =?= 3 && RemoteHost =!= undefined"
USER = f"penstock-bench{os.getpid()}"

Figures = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steady", type=float, default=30.0, help="seconds of the steady state")
    parser.add_argument("--version", default="23.9", help="of HTCondor: 23.9 or 25.14")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("the bench acts for a Unix user that it makes, so it must run as root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    found: Figures = {}
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(_directory())
        stack.enter_context(_user(place))
        pool = Pool(stack.enter_context(_condor(options.version)), USER, place)
        floor(pool, found)
        singles(pool, found)
        of_jobqueue(pool, found)
        with penstock(pool) as server:
            for number in range(options.rounds):
                print(f"round {number + 1} …", flush=True)
                of_server(pool, server, found, SIZES)
                of_notebook(pool, server, found)
            of_server(pool, server, found, (LARGE,))
            steady(pool, server, found, options.steady)
    report(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


# --- what is measured ------------------------------------------------------------------------


def floor(pool: Pool, figures: Figures) -> None:
    """What HTCondor itself needs for one ``queue N``, until the jobs are in the queue."""
    script = pool.place / "worker"
    script.write_text("#!/bin/sh\n# " + "x" * 60_000 + "\nexec sleep 3600\n")
    script.chmod(0o755)
    for size in (*SIZES, LARGE):
        for _ in range(3):
            with timed(figures, f"condor_submit, queue {size}: s"):
                pool.submit(size, script)
            empty(pool)


def singles(pool: Pool, figures: Figures) -> None:
    """A submission a worker, one after the other, as clients without a gateway make them."""
    for size in SIZES:
        print(f"{size} single submissions …", flush=True)
        with timed(figures, f"{size} single condor_submit: s"):
            for _ in range(size):
                pool.submit(1, pool.sleeper)
        empty(pool)


def of_jobqueue(pool: Pool, figures: Figures) -> None:
    """dask-jobqueue, whose scheduler is in the notebook."""
    print("dask-jobqueue …", flush=True)
    with jobqueue(pool) as child:
        of_child(pool, child, figures, "dask-jobqueue", SIZES[0])


def of_server(pool: Pool, server: Server, figures: Figures, sizes: tuple[int, ...]) -> None:
    """A cluster for each size: start it, scale it, stop it. The client is unmodified."""
    client = server.client
    for size in sizes:
        with timed(figures, "server, new cluster until RUNNING: s"):
            name = client.submit()
            wait_for(lambda n=name: client.get_cluster(n).status.name == "RUNNING", "it runs")
        cpu = server.cpu()
        order = functools.partial(client.scale_cluster, name, size)
        scale(pool, figures, size, "server", order, other=1)
        time.sleep(1.0)  # what the server does behind that belongs to its cost
        note(figures, f"server, scale({size}): CPU s", server.cpu() - cpu)
        stop(pool, figures, size, "server", functools.partial(client.stop_cluster, name))


def of_notebook(pool: Pool, server: Server, figures: Figures) -> None:
    """The same where the notebook submits the workers."""
    with notebook(pool, server) as child:
        for size in SIZES:
            of_child(pool, child, figures, "notebook", size, other=1)


def of_child(
    pool: Pool, child: Child, figures: Figures, who: str, size: int, other: int = 0
) -> None:
    """A cluster of a notebook's."""
    child.tell("new")
    child.done()
    scale(pool, figures, size, who, functools.partial(child.tell, "scale", size), other)
    child.done()
    stop(pool, figures, size, who, functools.partial(child.tell, "close"))
    child.done()


def scale(
    pool: Pool, figures: Figures, size: int, who: str, order: Callable[[], object], other: int = 0
) -> None:
    """``order`` until so many jobs are in the queue, besides ``other``."""
    with timed(figures, f"{who}, scale({size}): s"):
        order()
        wait_for(lambda: pool.count() >= size + other, f"{size} jobs of {who} are in the queue")


def stop(pool: Pool, figures: Figures, size: int, who: str, order: Callable[[], object]) -> None:
    """``order`` until no job waits or runs; some of them run before."""
    wait_for(lambda: pool.count(RUNNING) > min(size, CPUS) // 4, "some run")
    with timed(figures, f"{who}, stop of {size}: s"):
        order()
        wait_for(lambda: pool.count() == 0, "the removal is accepted")
    empty(pool)


def steady(pool: Pool, server: Server, figures: Figures, seconds: float) -> None:
    """Many clusters with all the workers that the machine has room for; the rest waits."""
    print(f"{STEADY_CLUSTERS} clusters of {STEADY_WORKERS} workers …", flush=True)
    client = server.client
    names = [client.submit() for _ in range(STEADY_CLUSTERS)]
    wait_for(lambda: len(client.list_clusters(status="running")) == len(names), "they run", 300)
    for name in names:
        client.scale_cluster(name, STEADY_WORKERS)
    wanted = STEADY_CLUSTERS * (STEADY_WORKERS + 1)
    wait_for(lambda: pool.count() == wanted, "all are in the queue", 300)
    room = min(wanted, CPUS) - 8  # HTCondor leaves a claim unused now and then
    wait_for(lambda: pool.count(RUNNING) >= room, "all that fit run", 300)
    time.sleep(10.0)
    cpu, asked, begin = server.cpu(), pool.questions(), time.perf_counter()
    time.sleep(seconds)
    took = time.perf_counter() - begin
    note(figures, "steady: % of a core", (server.cpu() - cpu) / took * 100)
    note(figures, "steady: s between two condor_q", took / max(1, pool.questions() - asked))
    for name in names:
        client.stop_cluster(name)
    wait_for(lambda: pool.count() == 0, "all have ended", 300)
    empty(pool)


# --- the surroundings ------------------------------------------------------------------------


def empty(pool: Pool) -> None:
    """No job is left of anybody's, and none that is over is still shown."""
    pool.condor.run("condor_rm", "-all", check=False)
    wait_for(lambda: pool.count(f"JobStatus == 2 || ({LEAVING})") == 0, "nothing runs any more")
    pool.condor.remove_all()


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    """Ask ever less often, so that asking slows nobody down who takes long."""
    begin = time.perf_counter()
    while not condition():
        waited = time.perf_counter() - begin
        if waited > seconds:
            raise SystemExit(f"not within {seconds:.0f} s: {what}")
        time.sleep(min(0.5, max(0.002, waited * 0.02)))


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="pk-bench-", dir="/tmp"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _user(place: Path) -> Iterator[None]:
    subprocess.run(["useradd", "--create-home", "--home-dir", place / "home", USER], check=True)
    try:
        yield
    finally:
        subprocess.run(["userdel", USER], check=True)


@contextlib.contextmanager
def _condor(version: str) -> Iterator[Condor]:
    condor = Condor(version, cpus=CPUS)
    try:
        yield condor.start()
    finally:
        condor.stop()


# --- the table -------------------------------------------------------------------------------


@contextlib.contextmanager
def timed(figures: Figures, name: str) -> Iterator[None]:
    """Note how long it took."""
    begin = time.perf_counter()
    yield
    note(figures, name, time.perf_counter() - begin)


def note(figures: Figures, name: str, value: float) -> None:
    """Keep one measurement."""
    figures.setdefault(name, []).append(value)


def report(found: Figures) -> None:
    """Medians, and from the lowest to the highest."""
    print(f"\n{'figure':42} {'median':>9}   range")
    for name, values in found.items():
        ends = f"{min(values):.3f} – {max(values):.3f}"
        print(f"{name:42} {statistics.median(values):9.3f}   {ends}")


if __name__ == "__main__":
    main()
