"""The numbers of all users, for admins and monitors alone."""

from __future__ import annotations

import json

import pytest

from rigs.facility import running_facility
from rigs.gateway import wait_until


@pytest.fixture(scope="module")
def facility(unix_users):
    with running_facility(unix_users, monitors=["mona"]) as facility:
        yield facility


def test_only_admins_and_monitors_read_the_metrics(facility):
    for user, status in ((None, 401), (facility.alice, 403), (facility.admin, 200), ("mona", 200)):
        found = facility.ask(user, "GET", "/metrics")
        assert found[0] == status, user
        if status == 200:
            assert found[2]["content-type"].startswith("text/plain; version=0.0.4")
        else:
            assert "dask" not in found[1]
            assert json.loads(found[1])["error"]
    name = "0" * 32
    assert facility.ask("mona", "GET", f"/api/v1/clusters/{name}")[0] == 404  # no admin


def test_a_running_cluster_is_counted(facility):
    with facility.client(facility.alice) as client, client.new_cluster() as cluster:
        cluster.scale(1)
        with cluster.get_client() as dask_client:
            dask_client.wait_for_workers(1, timeout=120)
            labels = f'{{cluster="{cluster.name}",user="{facility.alice}"}}'
            wanted = {
                f"dask_scheduler_workers{labels} 1.0",
                f"dask_scheduler_clients{labels} 1.0",
                f'penstock_clusters{{status="running",user="{facility.alice}"}} 1.0',
                "penstock_door_restarts_total 0.0",
            }

            def lines():
                return set(facility.ask(facility.admin, "GET", "/metrics")[1].splitlines())

            wait_until(lambda: wanted <= lines(), "all numbers are there")
            memory = f"penstock_worker_memory_bytes{labels}"
            wait_until(
                lambda: any(
                    line.startswith(memory) and float(line.split()[1]) > 2**20 for line in lines()
                ),
                "the workers' memory is reported",
            )
