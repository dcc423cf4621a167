"""The server dies around its submissions and cancellations: Slurm has neither an orphan nor a double."""

from __future__ import annotations

import contextlib
import time

import aiohttp
import pytest

from rigs.environments import environment
from rigs.facility import free_ports
from rigs.gateway import GatewayRig, wait_until
from rigs.slurm_clusters import BACKEND, profile

CONFIG = """
[[listen]]
address = "127.0.0.1:{port}"
"""


@pytest.fixture
def rig(slurm):
    config = CONFIG.format(port=free_ports(1)[0]) + BACKEND.format(slurm=slurm)
    config += profile("default").format(python=environment("new"))
    rig = GatewayRig(config)
    yield rig
    rig.stop()


def arrays(slurm, cluster) -> dict[str, int]:
    """Living workers of each array."""
    found: dict[str, int] = {}
    for base, name in slurm.squeue("ArrayJobID", "Name", states="PD,R,CF,CG,S"):
        if name == f"dask-worker-{cluster}":
            found[base] = found.get(base, 0) + 1
    return found


def serving(dask_client) -> int:
    return len(dask_client.scheduler_info(n_workers=-1)["workers"])


@pytest.mark.parametrize(
    ("point", "before", "after"),
    [("before sbatch", 1, 3), ("after sbatch", 1, 3), ("before scancel", 3, 1)],
)
def test_the_server_dies_around_a_command(rig, slurm, point, before, after):
    rig.start()
    with rig.client() as client:
        cluster = client.new_cluster(shutdown_on_close=False)
        cluster.scale(before)
        with cluster.get_client() as dask_client:
            dask_client.wait_for_workers(before, timeout=120)
            rig.kill()
            rig.start(crash=(point, 1))
            with contextlib.suppress(aiohttp.ClientError, OSError):
                cluster.scale(after)
            deadline = time.monotonic() + 15
            while rig.process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            assert rig.process.poll() is not None, "it died where it should"
            rig.start()
            wait_until(lambda: serving(dask_client) == after, f"{after} serve", 120)
            wait_until(lambda: sum(arrays(slurm, cluster.name).values()) == after, "as in Slurm")
            assert dask_client.submit(sum, [1, 2], pure=False).result(timeout=60) == 3
        cluster.close(shutdown=True)
    wait_until(lambda: not arrays(slurm, cluster.name), "no job is left")
