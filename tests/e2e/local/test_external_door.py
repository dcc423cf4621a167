"""Door and server as two services, as the systemd units start them: each ends and comes back alone."""

from __future__ import annotations

import signal
import socket
import subprocess

import psutil
import pytest
from dask_gateway.client import ClusterStatus

from rigs.facility import free_ports
from rigs.gateway import GatewayRig, wait_until

CONFIG = """
[[listen]]
address = "127.0.0.1:{port}"
"""


class TwoServices(GatewayRig):
    """``penstock door`` and ``penstock serve --external-door``, with one configuration."""

    def __init__(self) -> None:
        super().__init__()
        [self.port] = free_ports(1)
        self.config = CONFIG.format(port=self.port)
        self.door: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: str) -> list[str]:
        more = ["--external-door"] if arguments[:1] == ("serve",) else []
        return super().command(*arguments, *more)

    def start_door(self) -> subprocess.Popen[bytes]:
        """The door's service; returns once it listens."""
        with (self.directory / "door.out").open("ab") as log:
            self.door = subprocess.Popen(
                self.command("door", *self.place()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self.listens, "the door listens")
        return self.door

    def end_door(self) -> None:
        """What ``systemctl stop penstock-door`` does."""
        assert self.door is not None
        self.door.send_signal(signal.SIGTERM)
        assert self.door.wait(30) == 0, (self.directory / "door.out").read_text()

    def listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=10).close()
        except ConnectionRefusedError:
            return False
        return True

    def stop(self) -> None:
        try:
            if self.process is not None and (self.door is None or self.door.poll() is not None):
                self.start_door()
            super().stop()
        finally:
            if self.door is not None and self.door.poll() is None:
                self.door.terminate()
                self.door.wait(30)


@pytest.fixture
def services():
    rig = TwoServices()
    yield rig
    rig.stop()


@pytest.fixture
def cluster(services):
    """A cluster of one worker behind both services."""
    services.start_door()
    services.start()
    with services.client() as client:
        cluster = client.new_cluster(shutdown_on_close=False)
        cluster.scale(1)
        yield cluster
        cluster.close(shutdown=False)


def doors_of(rig: TwoServices) -> list[int]:
    """Processes that are a door of this gateway, whoever started them."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if str(rig.state) in " ".join(line) and ("door" in line or "penstock.door" in line):
            found.append(process.pid)
    return found


def jobs_of(name: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if name in process.environ().get("PENSTOCK_TAG", ""):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def waiting_for(path):
    """A task that ends when a file is there; made here, since workers cannot import this file."""

    def work():
        import os
        import time

        while not os.path.exists(path):
            time.sleep(0.05)
        return "done"

    return work


def test_a_server_without_its_door_says_what_to_do(services):
    arguments = services.command("serve", *services.place())
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: No door answers at {services.state}/run/door.sock.")
    assert "systemctl start penstock-door" in done.stderr
    assert "penstock door" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert doors_of(services) == []


def test_a_second_door_says_who_has_its_place(services):
    door = services.start_door()
    arguments = services.command("door", *services.place())
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1, done.stderr
    assert doors_of(services) == [door.pid]
    services.end_door()


def test_a_door_of_an_older_configuration_is_named(services):
    door = services.start_door()
    services.start()
    assert "older configuration" not in services.log.read_text()
    services.kill(signal.SIGTERM)
    services.config += "[door]\nper_address = 99\n"
    services.start()
    line = next(x for x in services.log.read_text().splitlines() if "older configuration" in x)
    assert f"(pid {door.pid})" in line
    assert "systemctl restart penstock-door" in line
    assert doors_of(services) == [door.pid]


def test_a_restart_of_the_server_breaks_no_connection(services, cluster):
    go_on = services.directory / "go on"
    with cluster.get_client() as dask_client:
        dask_client.wait_for_workers(1, timeout=120)
        future = dask_client.submit(waiting_for(str(go_on)))
        services.kill(signal.SIGTERM)
        assert services.process.returncode == 0
        assert services.listens()
        services.start()
        go_on.touch()
        assert future.result(timeout=60) == "done"  # of the connection that was there all along
        cluster.scale(2)
        dask_client.wait_for_workers(2, timeout=120)
    assert doors_of(services) == [services.door.pid]


def test_a_restart_of_the_door_needs_no_other_of_the_server(services, cluster):
    go_on = services.directory / "go on"
    with cluster.get_client() as dask_client:
        dask_client.wait_for_workers(1, timeout=120)
        future = dask_client.submit(waiting_for(str(go_on)))
        services.end_door()
        wait_until(lambda: dask_client.status != "running", "the client misses it")
        wait_until(
            lambda: "no door: No door answers at" in services.log.read_text(), "it is missed"
        )
        assert doors_of(services) == []  # the server starts none of its own
        services.start_door()
        wait_until(lambda: dask_client.status == "running", "the client is back", 60)
        assert future.cancelled()  # as Dask does with every lost connection, and the docs say
        go_on.touch()  # a task that had begun keeps its thread, also when nobody wants it any more
        assert dask_client.submit(sum, [1, 2]).result(timeout=60) == 3
    with services.client() as client, client.connect(cluster.name) as same:
        assert client.get_cluster(cluster.name).status is ClusterStatus.RUNNING
        same.scale(2)
        with same.get_client() as another:
            another.wait_for_workers(2, timeout=120)
    assert services.process.poll() is None
    assert doors_of(services) == [services.door.pid]


def test_stop_leaves_the_door_to_systemd(services, cluster):
    assert jobs_of(cluster.name)
    done = services.cli("stop", "--clusters", "--keep-door", *services.place())
    assert "front door" not in done.stdout
    assert services.process.wait(30) == 0
    assert jobs_of(cluster.name) == []
    assert doors_of(services) == [services.door.pid]
    assert services.listens()
    services.start()
    with services.client() as client:
        assert client.list_clusters() == []
        assert client.get_cluster(cluster.name).status is ClusterStatus.STOPPED
