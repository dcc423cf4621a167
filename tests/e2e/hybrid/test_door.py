"""Workers on a network from which no scheduler can be reached: they come through the front door."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys

import pytest
from dask_gateway import BasicAuth

from penstock.client import Gateway
from rigs.gateway import running_gateway, wait_until
from rigs.islands import PortForwarding, island

CONFIG = """
[[listen]]
address = "{here}:{port}"

[profiles.hybrid.scheduler]
contact_host = "127.0.0.1"
ports = "{first}-{middle}"

[profiles.hybrid.workers.plain]
python = "{python}"
scheduler_route = "door"
ports = "{second}-{third}"
nanny = false
resources = {{ PLAIN = 1 }}

[profiles.hybrid.workers.watched]
python = "{python}"
scheduler_route = "door"
ports = "{second}-{third}"

[profiles.hybrid.workers.behind]
python = "{python}"
scheduler_route = "door"
ports = "{third}-{last}"
listen_host = "0.0.0.0"
contact_host = "$ROUTER"
env = {{ ROUTER = "{here}" }}
"""


def free_block(size: int) -> int:
    """The first of some ports in a row that nobody here listens at."""
    for first in range(20000 + os.getpid() % 1000 * 10, 32000, size):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + size):
                stack.enter_context(socket.create_server(("", port)))
            return first
    raise AssertionError("no ports are free")


@pytest.fixture(scope="module")
def far():
    with island() as found:
        yield found


@pytest.fixture(scope="module")
def gateway(far, tmp_path_factory):
    first = free_block(16)
    python = far.wrapper(tmp_path_factory.mktemp("bin") / "python", sys.executable)
    config = CONFIG.format(
        here=far.here,
        port=first + 15,
        python=python,
        first=first,
        middle=first + 3,
        second=first + 4,
        third=first + 9,
        last=first + 12,
    )
    with running_gateway(config) as rig:
        yield rig, first


def try_to_reach(address):
    import socket

    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        return type(error).__name__
    return "reached"


def ask_others(n):
    from distributed import get_client, worker_client

    with worker_client() as client:
        total = sum(client.gather(client.map(abs, range(n), pure=False)))
        return total + get_client().submit(abs, -1, pure=False).result()


def where_am_i(_):
    import os

    return os.getppid(), os.getpid()


def by_value(function):
    """The same function as no importable one, so that jobs need not have these tests."""
    import types

    copy = types.FunctionType(function.__code__, {"__builtins__": __builtins__}, function.__name__)
    copy.__module__ = "__main__"
    return copy


def workers_of(dask):
    """Dask's own words on each worker by name."""
    shown = dask.scheduler_info(n_workers=-1)["workers"]
    return {one["name"]: {**one, "address": address} for address, one in shown.items()}


def by_sequence(found, number):
    """The worker of the batch that was submitted as the n-th, after the scheduler."""
    return next(one for one in found if one["name"] == f"w{number}-0")


def port_of(address):
    return int(address.rpartition(":")[2])


def test_workers_that_reach_only_the_door_do_everything(gateway, far):
    rig, first = gateway
    router = PortForwarding(far.here, far.there, range(first + 9, first + 13))
    with (
        contextlib.closing(router),
        Gateway(rig.address, auth=BasicAuth(rig.user, rig.password)) as client,
        client.new_cluster() as cluster,
        cluster.get_client() as dask,
    ):
        cluster.scale(1)
        cluster.scale(1, group="watched")
        cluster.scale(1, group="behind")
        dask.wait_for_workers(3, timeout=120)
        found = sorted(workers_of(dask).values(), key=lambda one: one["id"])
        plain, watched, behind = (by_sequence(found, number) for number in (1, 2, 3))
        # Nobody there can reach the scheduler itself.
        scheduler = dask.run_on_scheduler(lambda dask_scheduler: dask_scheduler.address)
        assert first <= port_of(scheduler) <= first + 3
        seen = dask.run(by_value(try_to_reach), scheduler)
        assert set(seen.values()) == {"ConnectionRefusedError"}
        # Ports and addresses are those that the configuration tells.
        assert plain["resources"] == {"PLAIN": 1}
        for one in (plain, watched):
            assert one["address"].startswith(f"tls://{far.there}:")
            assert first + 4 <= port_of(one["address"]) <= first + 9
        assert first + 4 <= port_of(watched["nanny"]) <= first + 9
        assert behind["address"].startswith(f"tls://{far.here}:")
        assert router.forwarded
        # Tasks that are clients themselves, on each; data moves between all of them.
        for one in found:
            submit = dask.submit(by_value(ask_others), 5, workers=[one["address"]], pure=False)
            assert submit.result(timeout=60) == 11
        parts = [dask.submit(bytes, 10**6, workers=[one["address"]], pure=False) for one in found]
        for one in found:
            total = dask.submit(lambda *all: sum(map(len, all)), *parts, workers=[one["address"]])
            assert total.result(timeout=60) == 3 * 10**6
        # A worker that dies comes back by its nanny.
        before = dask.submit(
            by_value(where_am_i), 1, workers=[watched["name"]], pure=False
        ).result()
        dask.submit(os._exit, 3, workers=[watched["name"]], pure=False, retries=0)
        after = wait_until(
            lambda: dask.submit(
                by_value(where_am_i), 2, workers=[watched["name"]], pure=False
            ).result(timeout=60),
            "the worker is there again",
        )
        assert (before[0], before[1] != after[1]) == (after[0], True)
        # The server goes and comes; nobody notices.
        names = set(workers_of(dask))
        rig.kill(signal.SIGKILL)
        running = dask.map(lambda x: x * x, range(50), pure=False)
        rig.start()
        assert sum(dask.gather(running)) == 40425
        assert set(workers_of(dask)) == names
        assert client.list_clusters()[0].name == cluster.name
