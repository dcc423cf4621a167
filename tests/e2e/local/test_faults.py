"""What goes wrong around a gateway: its database, its disk, its clock, its users' environments.

Each fault has its words for the user and its limits: what runs goes on, nothing is lost, and all
is as ever once the fault is over.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import psutil
import pytest
from dask_gateway.client import ClusterStatus, GatewayClusterError, GatewayServerError

from rigs.environments import environment
from rigs.facility import free_ports
from rigs.gateway import GatewayRig, wait_until
from rigs.needs import lacking, need_root

CONFIG = """
[[listen]]
address = "127.0.0.1:{port}"

[backends.local]
type = "local"
period = "500 ms"

[profiles.default.workers.default]
memory = "1 GiB"
nanny = false

[profiles.default.limits]
max_lifetime = "1 h"
idle_timeout = "30 min"
no_client_timeout = "30 min"

[profiles.crippled.workers.default]
python = "{directory}/crippled"
nanny = false

[profiles.crippled.limits]
worker_tries = 2

[profiles.mute.scheduler]
python = "{directory}/mute"

[profiles.mute.limits]
start_timeout = "2 s"

[profiles.slow.scheduler]
python = "{directory}/slow"
"""

CRIPPLED = """#!/bin/sh
echo 'no accelerator on this node' >&2
exit 3
"""

HEALTHY = f"""#!/bin/sh
exec {sys.executable} "$@"
"""

MUTE = """#!/bin/sh
echo 'pondering'
exec sleep 1000
"""

SLOW = """#!/bin/sh
while [ ! -e {directory}/go ]; do sleep 0.1; done
exec {python} "$@"
"""

DAY = 86400


def script(path: Path, text: str) -> None:
    """Replace an executable in one step."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(text)
    draft.chmod(0o755)
    draft.replace(path)


class FaultRig(GatewayRig):
    """A gateway with profiles that fail in their own ways."""

    def __init__(self) -> None:
        super().__init__()
        self.config = CONFIG.format(port=free_ports(1)[0], directory=self.directory)
        script(self.directory / "crippled", CRIPPLED)
        script(self.directory / "mute", MUTE)
        slow = SLOW.format(directory=self.directory, python=sys.executable)
        script(self.directory / "slow", slow)

    def ask(self, path: str) -> dict:
        """A GET of the API, as the user."""
        word = b64encode(f"{self.user}:{self.password}".encode()).decode()
        request = urllib.request.Request(
            f"{self.address}/api/v1/clusters/{path}", headers={"Authorization": f"Basic {word}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def events(self, cluster: str, kind: str) -> list[str]:
        """The texts of a cluster's events of one kind."""
        found = self.ask(f"{cluster}/events")["events"]
        return [event["text"] for event in found if event["kind"] == kind]

    def complained_in_sentences(self) -> None:
        """A fault that was thought of has a line in the log, and no trace of Python."""
        assert "Traceback" not in self.log.read_text()

    def pids(self, cluster: str, *, agents: bool = False) -> list[int]:
        """The Dask processes of a cluster's workers (or their agents)."""
        found = []
        for process in psutil.process_iter():
            try:
                tag = process.environ().get("PENSTOCK_TAG", "")
                line = process.cmdline()
            except (psutil.Error, OSError):
                continue
            ours = cluster in tag and not tag.endswith("-0")
            is_agent = any("penstock_agent.py" in part for part in line)
            if ours and is_agent and ("--child" in line) is not agents:
                found.append(process.pid)
        return found


@pytest.fixture(scope="module")
def shared():
    """For tests that leave the gateway itself alone."""
    rig = FaultRig()
    try:
        yield rig.start()
        rig.complained_in_sentences()
    finally:
        rig.stop()


@pytest.fixture
def rig():
    rig = FaultRig()
    try:
        yield rig
        rig.complained_in_sentences()
    finally:
        rig.stop()


def square():
    def work(number):
        return number * number

    return work


def computes(dask_client) -> bool:
    numbers = range(8)
    futures = dask_client.map(square(), numbers, pure=False)
    return dask_client.gather(futures) == [number * number for number in numbers]


def serving(dask_client) -> set[str]:
    found = dask_client.scheduler_info(n_workers=-1)["workers"].values()
    return {worker["name"] for worker in found}


# -- environments of users --


def test_workers_that_cannot_start_stop_their_group_and_nothing_else(shared):
    with shared.client() as client, client.new_cluster(profile="crippled") as cluster:
        name = cluster.name
        cluster.scale(1)
        stopped = wait_until(lambda: shared.events(name, "group-stopped"), "it gives up")
        assert "2 in a row ended before they served" in stopped[0]
        assert "no accelerator on this node" in stopped[0]
        deaths = shared.events(name, "worker-exit")
        assert len(deaths) == 2
        assert deaths[0].endswith("replaced")
        assert all("exited 3" in death for death in deaths)
        assert client.get_cluster(name).status is ClusterStatus.RUNNING
        with cluster.get_client() as dask_client:
            assert serving(dask_client) == set()
            script(shared.directory / "crippled", HEALTHY)
            cluster.scale(2)
            dask_client.wait_for_workers(2, timeout=120)
            assert computes(dask_client)
        script(shared.directory / "crippled", CRIPPLED)


def test_a_scheduler_that_says_nothing_fails_with_its_reason(shared):
    with shared.client() as client, pytest.raises(GatewayClusterError) as caught:
        client.new_cluster(profile="mute")
    text = str(caught.value)
    assert "ran for 2 s without reporting to the gateway (start_timeout)" in text
    assert "pondering" in text


def test_an_environment_without_distributed_is_told_exactly(shared):
    python = environment("empty")
    with shared.client() as client, pytest.raises(GatewayClusterError) as caught:
        client.new_cluster(venv=str(python.parent.parent))
    text = str(caught.value)
    version = subprocess.check_output([python, "-V"], text=True).strip()
    sentence = f"no distributed in {python} ({version}): install dask and distributed there"
    assert f"The scheduler exited 78: {sentence}." in text


def test_a_worker_killed_like_by_the_kernel_is_told_and_replaced(shared):
    with shared.client() as client, client.new_cluster() as cluster:
        cluster.scale(1)
        with cluster.get_client() as dask_client:
            dask_client.wait_for_workers(1, timeout=120)
            before = serving(dask_client)
            (pid,) = shared.pids(cluster.name)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: serving(dask_client) - before, "another serves", 120)
            assert computes(dask_client)
        (death,) = shared.events(cluster.name, "worker-exit")
        (worker,) = before
        assert death.startswith(f"worker {worker} exited 137: killed")
        assert "out of memory" in death
        assert death.endswith("replaced")


# -- the gateway itself --


def in_background(call: Callable[[], object]) -> Future:
    """The result of a call in a thread that holds nobody up."""
    future: Future = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def test_a_start_outlives_the_servers_restart(rig):
    rig.start()
    with rig.client() as client, rig.client() as other:
        starting = in_background(lambda: client.new_cluster(profile="slow"))
        (report,) = wait_until(other.list_clusters, "it is asked for")
        assert report.status is ClusterStatus.PENDING
        rig.kill(signal.SIGTERM)
        assert not starting.done()
        rig.start()
        (rig.directory / "go").touch()
        with starting.result(120) as cluster:
            assert cluster.name == report.name
            assert cluster.status == "running"


@contextlib.contextmanager
def locked(database: Path):
    """Hold the database's write lock, as a backup that hangs does."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_a_locked_database_stops_changes_alone(rig):
    rig.start()
    with rig.client() as client, client.new_cluster() as cluster:
        cluster.scale(2)
        with cluster.get_client() as dask_client:
            dask_client.wait_for_workers(2, timeout=120)
            before = serving(dask_client)
            with locked(rig.state / "penstock.db"):
                os.kill(rig.pids(cluster.name)[0], signal.SIGKILL)
                changes = [
                    in_background(lambda: client.scale_cluster(cluster.name, 3)),
                    in_background(client.submit),
                ]
                assert [report.name for report in client.list_clusters()] == [cluster.name]
                assert computes(dask_client)
                for change in changes:
                    with pytest.raises(GatewayServerError, match=r"nothing was changed: .* locked"):
                        change.result(60)
                rig.kill()
                told = rig.cli("serve", *rig.place(), check=False)
                assert told.returncode == 1
                assert "is locked by another program; end that program" in told.stderr
                assert computes(dask_client)
            rig.start()
            wait_until(lambda: len(serving(dask_client)) == 2, "the dead one is replaced", 120)
            assert len(serving(dask_client) & before) == 1
            assert len(rig.pids(cluster.name, agents=True)) == 2
            cluster.scale(3)
            dask_client.wait_for_workers(3, timeout=120)
        # What happened meanwhile is on record.
        assert len(rig.events(cluster.name, "worker-exit")) == 1
        assert len(client.list_clusters()) == 1


@contextlib.contextmanager
def small_disk(rig: FaultRig):
    """The state directory on a file system of its own, so that it can be filled."""
    need_root("only root can mount")
    rig.state.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs", str(rig.state)]
    if subprocess.run(mount, capture_output=True).returncode:
        lacking("nothing can be mounted here")
    try:
        yield
    finally:
        rig.stop()
        subprocess.run(["umount", "--lazy", str(rig.state)], check=True)
        shutil.rmtree(rig.directory, ignore_errors=True)


def fill(directory: Path) -> Path:
    """Take all the space that is left."""
    path = directory / "filler"
    size = 1 << 20
    with path.open("ab", buffering=0) as file:
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    return path


def refused(cluster) -> bool:
    try:
        cluster.scale(1)
    except GatewayServerError:
        return True
    return False


def test_a_full_disk_stops_changes_alone():
    rig = FaultRig()
    with small_disk(rig):
        rig.start()
        with rig.client() as client, client.new_cluster() as cluster:
            cluster.scale(1)
            with cluster.get_client() as dask_client:
                dask_client.wait_for_workers(1, timeout=120)
                filler = fill(rig.state)
                # The database's log may have a little room left.
                wait_until(lambda: refused(cluster), "nothing can be written")
                with pytest.raises(GatewayServerError, match=r"nothing was changed: .* full"):
                    client.submit()
                assert computes(dask_client)
                assert client.get_cluster(cluster.name).status is ClusterStatus.RUNNING
                os.kill(rig.pids(cluster.name)[0], signal.SIGKILL)
                rig.kill()
                rig.start()  # even that needs no room
                assert client.get_cluster(cluster.name).status is ClusterStatus.RUNNING
                filler.unlink()
                cluster.scale(2)
                dask_client.wait_for_workers(2, timeout=120)
                assert computes(dask_client)
            assert len(client.list_clusters()) == 1
        rig.complained_in_sentences()


def test_a_clock_that_jumps_ends_nothing(rig):
    clock = rig.directory / "clock"
    clock.write_text("0")
    rig.start(through=("clocked_serve.py", str(clock)))
    with rig.client() as client, client.new_cluster() as cluster:
        cluster.scale(1)
        with cluster.get_client() as dask_client:
            dask_client.wait_for_workers(1, timeout=120)
            first = serving(dask_client)
            for workers, jump in enumerate((DAY, -DAY), start=2):
                set_clock(clock, jump)
                with client.new_cluster() as second:
                    began = client.get_cluster(second.name).start_time.timestamp()
                    assert abs(began - time.time() - jump) < DAY / 2  # it lives by the new time
                cluster.scale(workers)
                dask_client.wait_for_workers(workers, timeout=120)
                assert computes(dask_client)
            assert first <= serving(dask_client)
        for kind in ("worker-exit", "lost", "failed", "not-retired"):
            assert rig.events(cluster.name, kind) == []
        # A restart reads times that are in the future now: the lifetime begins anew at most.
        rig.kill()
        rig.start(through=("clocked_serve.py", str(clock)))
        assert client.get_cluster(cluster.name).status is ClusterStatus.RUNNING


def set_clock(file: Path, seconds: int) -> None:
    draft = file.with_name("clock.new")
    draft.write_text(str(seconds))
    draft.replace(file)


# -- two gateways --


def test_two_gateways_leave_each_other_alone():
    """Not even with one directory of jobs for both."""
    one, two = FaultRig(), FaultRig()
    shared_jobs = f'directory = "{one.directory}/jobs"\nperiod'
    for rig in (one, two):
        rig.config = rig.config.replace("period", shared_jobs, 1)
    try:
        one.start()
        two.start()
        with one.client() as first, two.client() as second:
            ending = first.new_cluster(shutdown_on_close=False)
            staying = second.new_cluster(shutdown_on_close=False)
            assert [report.name for report in second.list_clusters()] == [staying.name]
            with pytest.raises(ValueError, match="not found"):
                second.stop_cluster(ending.name)
            ending.scale(1)
            staying.scale(1)
            with staying.get_client() as dask_client:
                dask_client.wait_for_workers(1, timeout=120)
                before = serving(dask_client)
                wait_until(lambda: one.pids(ending.name), "the other has its worker")
                one.cli("stop", "--clusters", *one.place())
                one.process.wait(30)
                one.process = None
                assert one.pids(ending.name, agents=True) == []
                two.kill()
                two.start()
                assert computes(dask_client)
                assert serving(dask_client) == before
            assert second.get_cluster(staying.name).status is ClusterStatus.RUNNING
            ending.close(shutdown=False)
            staying.close(shutdown=False)
    finally:
        two.stop()
        one.stop()
