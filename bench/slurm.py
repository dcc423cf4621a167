"""Clusters on a real Slurm: this gateway beside ``dask-gateway-server``, on the same Slurm in one run.

    python -m bench.slurm [--rounds 3] [--without-peer] [--steady 60] [--json FILE]

Both servers run as root and act for the same user; both use the unmodified client. Schedulers are
real, workers only sleep, so what is measured is the way from ``scale`` to jobs in Slurm's queue and
back. CPU time is that of the server with all commands that it ran. Slurm's own floor (a bare
``sbatch`` of the same array) is measured beside, and so is what a start owes to Slurm and to the import
of ``distributed``. Needs root, Slurm, and sudo for the peer.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import pwd
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import psutil
from bench.slurm_report import Figures, derived, report
from bench.slurm_start import shares
from bench.slurm_variants import Variant, peer, penstock
from dask_gateway import GatewayCluster

from rigs.slurm import Slurm

NODES, CPUS = 4, 128
SIZES = (100, 300, 1000)
STEADY_CLUSTERS, STEADY_WORKERS = 20, 50
PERIOD = 5.0
"""Seconds between two looks of ours, as configured by default."""

USER = f"penstock-bench{os.getpid()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-peer", action="store_true", help="a short run of ours alone")
    parser.add_argument("--steady", type=float, default=60.0, help="seconds of the steady state")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("the bench acts for a Unix user that it makes, so it must run as root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    found: dict[str, Figures] = {"slurm": {}, "penstock": {}, "peer": {}}
    with _user(), _slurm() as slurm:
        with penstock(slurm, USER) as ours:
            # First of all: Slurm shows what has ended for minutes, and this is not to count here.
            steady(ours, slurm, found["penstock"], options.steady)
            floor(slurm, found["slurm"])
            with contextlib.ExitStack() as stack:
                variants = [ours]
                if not options.without_peer:
                    variants.append(stack.enter_context(peer(slurm, USER)))
                for number in range(options.rounds):
                    for variant in variants if number % 2 else variants[::-1]:
                        print(f"round {number + 1}: {variant.name} …", flush=True)
                        one_round(variant, slurm, found[variant.name], (100,))
            for _ in range(options.rounds):
                one_round(ours, slurm, found["penstock"], SIZES[1:])
            idle(ours, slurm, found["penstock"], options.steady / 2)
        print("starts in their parts …", flush=True)
        shares(slurm, USER, 2 * options.rounds, functools.partial(note, found["penstock"]))
    derived(found)
    report(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


# --- what is measured ------------------------------------------------------------------------


def floor(slurm: Slurm, figures: Figures) -> None:
    """What Slurm itself needs for one array, from ``sbatch`` to the jobs in the queue."""
    script = "#!/bin/sh\n# " + "x" * 60_000 + "\nexec sleep 3600\n"
    for size in SIZES:
        for _ in range(5):
            begin = time.perf_counter()
            subprocess.run(
                ["sbatch", f"--array=0-{size - 1}", "--output=/dev/null", "--parsable"],
                input=script, text=True, env=slurm.environ, check=True, user=USER, cwd="/",
                capture_output=True,
            )  # fmt: skip
            note(figures, f"sbatch of {size}, s", time.perf_counter() - begin)
            wait_for(lambda n=size: in_queue(slurm) >= n, "the array is in the queue")
            note(figures, f"sbatch of {size} until in the queue, s", time.perf_counter() - begin)
            slurm.cancel_all()


def one_round(variant: Variant, slurm: Slurm, figures: Figures, sizes: tuple[int, ...]) -> None:
    """A cluster for each size: start it, scale it, stop it."""
    for size in sizes:
        begin = time.perf_counter()
        cluster = variant.client.new_cluster(shutdown_on_close=False)
        note(figures, "new_cluster → RUNNING, s", time.perf_counter() - begin)
        scale_and_stop(variant, slurm, cluster, figures, size)
        wait_for(lambda: in_queue(slurm, "PD,R,CG,CF") == 0, "everything has ended")


def scale_and_stop(
    variant: Variant, slurm: Slurm, cluster: GatewayCluster, figures: Figures, size: int
) -> None:
    """``scale`` until the jobs are in the queue, ``shutdown`` until none waits or runs."""
    cpu = variant.cpu()
    begin = time.perf_counter()
    cluster.scale(size)
    wait_for(lambda: in_queue(slurm) >= size + 1, f"{size} jobs in the queue")
    note(figures, f"scale({size}), s", time.perf_counter() - begin)
    time.sleep(1.0)  # what the server does behind that belongs to its cost
    note(figures, f"scale({size}), CPU s", variant.cpu() - cpu)
    wait_for(lambda: in_queue(slurm, "R") >= min(size + 1, NODES * CPUS // 2), "they run")
    # The processors shall not still be busy with what Slurm has just started.
    wait_for(lambda: sleeping() >= in_queue(slurm, "R") - 1, "all workers have begun to sleep")
    cpu = variant.cpu()
    begin = time.perf_counter()
    cluster.shutdown()
    wait_for(lambda: in_queue(slurm) == 0, "the cancellation is accepted")
    note(figures, f"stop of {size}, s", time.perf_counter() - begin)
    wait_for(lambda: in_queue(slurm, "PD,R,CG,CF") == 0, "everything has ended")
    note(figures, f"stop of {size}, CPU s", variant.cpu() - cpu)


def steady(variant: Variant, slurm: Slurm, figures: Figures, seconds: float) -> None:
    """Many clusters with all the workers that the nodes have room for; the rest waits."""
    print(f"{STEADY_CLUSTERS} clusters of {STEADY_WORKERS} workers …", flush=True)
    names = [variant.client.submit() for _ in range(STEADY_CLUSTERS)]
    for name in names:
        variant.client.scale_cluster(name, STEADY_WORKERS)
    wanted = STEADY_CLUSTERS * (STEADY_WORKERS + 1)
    wait_for(lambda: in_queue(slurm) == wanted, "all are in the queue", 600)
    room = min(wanted, NODES * CPUS)
    wait_for(lambda: in_queue(slurm, "R") == room, "they run", 600)
    wait_for(lambda: sleeping() >= room - len(names), "all workers have begun to sleep", 600)
    time.sleep(10.0)
    cpu, asked, begin = variant.cpu(), questions(slurm), time.perf_counter()
    time.sleep(seconds)
    took = time.perf_counter() - begin
    note(figures, "steady: % of a core", (variant.cpu() - cpu) / took * 100)
    note(figures, "steady: squeue a period", (questions(slurm) - asked) * PERIOD / took)
    for name in names:
        variant.client.stop_cluster(name)
    wait_for(lambda: in_queue(slurm, "PD,R,CG,CF") == 0, "everything has ended", 600)


def idle(variant: Variant, slurm: Slurm, figures: Figures, seconds: float) -> None:
    """No cluster at all, but all the tasks that have ended in the last minutes (MinJobAge)."""
    note(figures, "idle: tasks just ended", in_queue(slurm, "all"))
    cpu, begin = variant.cpu(), time.perf_counter()
    time.sleep(seconds)
    share = (variant.cpu() - cpu) / (time.perf_counter() - begin)
    note(figures, "idle: % of a core", share * 100)


# --- Slurm as it says ------------------------------------------------------------------------


def in_queue(slurm: Slurm, states: str = "PD,R,CF") -> int:
    """Jobs in these states, the tasks of arrays one by one."""
    return len(slurm.run("squeue", "-h", "-r", "-t", states, "-o", "%i").stdout.split())


def sleeping() -> int:
    """Workers that have come to their sleep."""
    found = psutil.process_iter(["username", "cmdline"])
    return sum(each.info == {"username": USER, "cmdline": ["sleep", "3600"]} for each in found)


def questions(slurm: Slurm) -> int:
    """How often slurmctld was asked for jobs, as it counts (``sdiag``)."""
    said = slurm.run("sdiag").stdout
    return sum(
        int(n) for n in re.findall(r"REQUEST_JOB_(?:USER_)?INFO\S*\s+\(.*?count:(\d+)", said)
    )


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    """Ask ever less often, so that asking slows nobody down who takes long."""
    begin = time.perf_counter()
    while not condition():
        waited = time.perf_counter() - begin
        if waited > seconds:
            raise SystemExit(f"not within {seconds:.0f} s: {what}")
        time.sleep(min(0.5, max(0.002, waited * 0.02)))


@contextlib.contextmanager
def _slurm() -> Iterator[Slurm]:
    # Hundreds of jobs begin at once on few cores: slurmd shall not take that for a broken network.
    slurm = Slurm(NODES, CPUS, array=1001, message_timeout=20, node_timeout=300)
    try:
        yield slurm.start()
    finally:
        slurm.stop()


@contextlib.contextmanager
def _user() -> Iterator[None]:
    subprocess.run(["useradd", "--create-home", USER], check=True)
    try:
        yield
    finally:
        pwd.getpwnam(USER)
        subprocess.run(["userdel", "--remove", USER], check=True)


def note(figures: Figures, name: str, value: float) -> None:
    """Keep one measurement."""
    figures.setdefault(name, []).append(value)


if __name__ == "__main__":
    main()
