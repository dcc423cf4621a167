"""Kill tests: the server, the door, schedulers and workers die for real, and nobody is hurt.

A client computes all the while; in the end its results are right, there are exactly as many
workers as were asked for, and nothing is left (the session's final check proves the last).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import aiohttp
import psutil
import pytest
from dask_gateway.client import ClusterStatus, GatewayClusterError

from rigs.gateway import GatewayRig, wait_until

SPINS = 32


@pytest.fixture
def rig():
    rig = GatewayRig()
    yield rig
    rig.stop()


def slow_square():
    """A task; made here because workers cannot import this file, so it must travel whole."""

    def work(number):
        import time

        time.sleep(0.25)
        return number * number

    return work


def processes(wanted: Callable[[dict[str, str], list[str]], bool]) -> list[psutil.Process]:
    """Processes of this machine that ``wanted(environment, command line)`` picks."""
    found = []
    for process in psutil.process_iter():
        try:
            environ, line = process.environ(), process.cmdline()
        except (psutil.Error, OSError):
            continue
        if wanted(environ, line):
            found.append(process)
    return found


def jobs(cluster: str) -> list[psutil.Process]:
    """First processes (agents) of a cluster's jobs."""
    return processes(
        lambda environ, line: (
            cluster in environ.get("PENSTOCK_TAG", "")
            and "PENSTOCK_INDEX" in environ
            and any("penstock_agent.py" in part for part in line)
            and "--child" not in line
        )
    )


def workers(dask_client) -> set[str]:
    info = dask_client.scheduler_info(n_workers=-1)["workers"]
    return {worker["name"] for worker in info.values()}


def settled(dask_client, name, count) -> None:
    """Exactly ``count`` workers serve, and exactly their jobs (and the scheduler's) exist."""
    wait_until(lambda: len(workers(dask_client)) == count, f"{count} workers serve", 120)
    wait_until(lambda: len(jobs(name)) == count + 1, "no job too many and none too few", 120)


CRASHES = [
    # point, workers before, workers asked for: the crash comes while the wish is carried out
    ("after the journal", 1, 3),
    ("before submit", 1, 3),
    ("after submit", 1, 3),
    ("before record", 1, 3),
    ("after record", 1, 3),
    ("after a cluster is saved", 1, 3),
    ("before record", 3, 1),
    ("after record", 3, 1),
    ("before cancel", 3, 1),
    ("after cancel", 3, 1),
]


@pytest.mark.parametrize(("point", "before", "after"), CRASHES)
def test_the_server_dies_at_a_point_while_a_client_computes(rig, point, before, after):
    rig.start()
    with rig.client() as client:
        cluster = client.new_cluster(shutdown_on_close=False)
        cluster.scale(before)
        with cluster.get_client() as dask_client:
            dask_client.wait_for_workers(before, timeout=120)
            futures = dask_client.map(slow_square(), range(SPINS))
            rig.kill()
            rig.start(crash=(point, 1))
            crashed = ask_until_it_crashes(rig, cluster, after)
            rig.start()
            if not crashed:  # the wish was lost with the request, as its sender knows
                cluster.scale(after)
            assert sum(dask_client.gather(futures)) == sum(i * i for i in range(SPINS))
            settled(dask_client, cluster.name, after)
        cluster.close(shutdown=True)


def ask_until_it_crashes(rig, cluster, count) -> bool:
    """Ask for ``count`` workers; True when the answer came before the crash."""
    try:
        cluster.scale(count)
        answered = True
    except (aiohttp.ClientError, OSError):
        answered = False
    crash_or_kill(rig)
    return answered


def crash_or_kill(rig) -> None:
    """The armed crash has some seconds to happen; else the server is killed here and now."""
    deadline = time.monotonic() + 15
    while rig.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if rig.process.poll() is None:
        rig.kill()


def test_a_stop_survives_the_servers_death(rig):
    rig.start(crash=("before cancel", 1))
    with rig.client() as client:
        cluster = client.new_cluster(shutdown_on_close=False)
        cluster.scale(2)
        with cluster.get_client() as dask_client:
            dask_client.wait_for_workers(2, timeout=120)
        client.stop_cluster(cluster.name)
        cluster.close(shutdown=False)
        crash_or_kill(rig)
        rig.start()
        wait_until(
            lambda: client.get_cluster(cluster.name).status is ClusterStatus.STOPPED, "it stops", 60
        )
        assert jobs(cluster.name) == []


def test_requests_wait_while_the_server_is_away(rig):
    rig.start()
    with rig.client() as client, client.new_cluster() as cluster:
        cluster.scale(1)
        with cluster.get_client() as dask_client:
            dask_client.wait_for_workers(1, timeout=120)
            rig.kill()
            with cluster.get_client(
                set_as_default=False
            ) as second:  # a known route goes on working
                assert second.submit(sum, [1, 2]).result(timeout=60) == 3
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(1) as pool, rig.client() as fresh:
                waiting = pool.submit(fresh.list_clusters)
                rig.start()
                assert [report.name for report in waiting.result(60)] == [cluster.name]
            assert dask_client.submit(sum, [3, 4]).result(timeout=60) == 7


def test_sigterm_leaves_clusters_alone(rig):
    rig.start()
    with rig.client() as client, client.new_cluster() as cluster:
        cluster.scale(1)
        with cluster.get_client() as dask_client:
            dask_client.wait_for_workers(1, timeout=120)
            future = dask_client.submit(slow_square(), 3)
            rig.kill(signal.SIGTERM)
            assert future.result(timeout=60) == 9
            rig.start()
            settled(dask_client, cluster.name, 1)


def door_of(rig: GatewayRig) -> psutil.Process | None:
    state = str(rig.state)
    doors = processes(lambda _, line: "penstock.door" in line and state in " ".join(line))
    return doors[0] if doors else None


def test_the_door_dies_and_is_back(rig):
    rig.start()
    with rig.client() as client, client.new_cluster() as cluster:
        cluster.scale(1)
        with cluster.get_client() as dask_client:
            dask_client.wait_for_workers(1, timeout=120)
            door = door_of(rig)
            assert door is not None
            door.kill()
            wait_until(lambda: door_of(rig) not in (None, door), "another door", 20)
        with cluster.get_client() as again:
            assert again.submit(sum, [1, 2]).result(timeout=60) == 3
        assert client.get_cluster(cluster.name).status is ClusterStatus.RUNNING


def test_a_killed_scheduler_fails_the_cluster_with_the_reason(rig):
    rig.start()
    with rig.client() as client:
        cluster = client.new_cluster(shutdown_on_close=False)
        pid = scheduler_pid(cluster.name)
        os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda: client.get_cluster(cluster.name).status is ClusterStatus.FAILED, "it failed", 60
        )
        with pytest.raises(GatewayClusterError, match=r"(?i)scheduler.*(137|SIGKILL)"):
            client.connect(cluster.name)
        cluster.close(shutdown=False)


def scheduler_pid(name) -> int:
    tag_ends = f"{name}-0"
    [scheduler] = processes(
        lambda environ, line: (
            environ.get("PENSTOCK_TAG", "").endswith(tag_ends) and "--child" in line
        )
    )
    return scheduler.pid


def test_a_killed_worker_is_replaced(rig):
    rig.start()
    with rig.client() as client, client.new_cluster() as cluster:
        cluster.scale(2)
        with cluster.get_client() as dask_client:
            dask_client.wait_for_workers(2, timeout=120)
            before = workers(dask_client)
            victim = next(
                p for p in jobs(cluster.name) if not p.environ()["PENSTOCK_TAG"].endswith("-0")
            )
            victim.kill()
            wait_until(lambda: workers(dask_client) - before, "a new worker", 120)
            settled(dask_client, cluster.name, 2)
