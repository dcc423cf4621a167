"""Workers whose environment is not their scheduler's: the user is told by name and version, once."""

from __future__ import annotations

import json
import warnings

import pytest

from rigs.environments import environment
from rigs.facility import free_ports
from rigs.gateway import running_gateway, wait_until

CONFIG = """
[[listen]]
address = "127.0.0.1:{port}"

[backends.local]
type = "local"
period = "500 ms"

[profiles.default.scheduler]
python = "{new}"

[profiles.default.workers.default]
python = "{old}"
nanny = false
"""


@pytest.fixture
def gateway():
    config = CONFIG.format(port=free_ports(1)[0], new=environment("new"), old=environment("old"))
    with running_gateway(config) as rig:
        yield rig


def test_a_client_hears_of_workers_that_come_later(gateway):
    """Dask itself compares when a client connects, and says nothing of who comes after that."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with gateway.client() as client, client.new_cluster() as cluster:
            dask_client = cluster.get_client()

            def told() -> list[str]:
                texts = [str(warning.message) for warning in caught]
                return [text for text in texts if text.startswith("Workers of this cluster run")]

            assert not told()
            cluster.scale(2)
            wait_until(told, "the unmodified client is warned")
            assert "distributed 2023.12.1" in told()[0]
            assert "its scheduler Python 3" in told()[0]
            shown = wait_until(lambda: events(client, cluster.name), "an event tells it, too")
            wait_until(lambda: live(client, cluster.name)["workers"] == 2, "the second comes")
            assert len(told()) == 1
            dask_client.close()
    assert len(shown) == 1
    assert "distributed 2023.12.1" in shown[0]
    assert "the scheduler runs Python 3" in shown[0]
    assert "one environment" in shown[0]


def ask(client, cluster: str, what: str):
    """JSON of what only Penstock answers."""

    async def get():
        url = f"{client.address}/api/v1/clusters/{cluster}/{what}"
        return json.loads(await (await client._request("GET", url)).text())

    return client.sync(get)


def events(client, cluster: str) -> list[str]:
    found = ask(client, cluster, "events")["events"]
    return [event["text"] for event in found if event["kind"] == "versions"]


def live(client, cluster: str):
    return ask(client, cluster, "live")["report"]
