"""Clients and clusters that are collected in the thread of their own event loop."""

import asyncio
import concurrent.futures

import pytest
from dask_gateway import Gateway as BaseGateway
from dask_gateway.client import GatewayServerError

from penstock.client import Gateway, GatewayCluster
from penstock.client.closing import Closing, adopt


@pytest.fixture
def gateway():
    with Gateway("http://127.0.0.1:9") as gateway:
        yield gateway


def in_loop(gateway, call):
    """Call something in the loop's thread; fails when that waits for itself."""

    async def there():
        call()
        await asyncio.sleep(0.01)

    future = asyncio.run_coroutine_threadsafe(there(), gateway.loop.asyncio_loop)
    try:
        future.result(30)
    except concurrent.futures.TimeoutError:
        pytest.fail("it waits for itself")


def test_a_client_does_not_wait_for_itself(gateway):
    async def begin():
        with pytest.raises(GatewayServerError, match="cannot be reached"):
            await gateway._request("GET", f"{gateway.address}/api/version")

    gateway.sync(begin)
    session = gateway._session
    assert not session.closed
    in_loop(gateway, gateway.__del__)
    assert session.closed


def test_a_cluster_does_not_either(gateway):
    stopped = []

    class Cluster(GatewayCluster):
        async def _stop_internal(self, shutdown=None):
            stopped.append(self.name)

    cluster = object.__new__(Cluster)
    cluster.gateway, cluster.status, cluster.name = gateway, "running", "one"
    in_loop(gateway, cluster.__del__)
    assert stopped == ["one"]
    cluster.status = "closed"
    in_loop(gateway, cluster.__del__)
    assert stopped == ["one"]


def test_what_a_cluster_made_for_itself_is_one_of_ours():
    plain = BaseGateway("http://127.0.0.1:9")
    adopt(plain)
    assert type(plain) is Closing
    in_loop(plain, plain.__del__)
    plain.close()
    plain.close()
    adopt(None)
