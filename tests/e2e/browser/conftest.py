"""Fixtures: a browser, a gateway, and a real Dask cluster with its dashboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver

from rigs.chromium import chromium
from rigs.dashboards import Gateway, LoopThread, running_gateway
from rigs.dask_cluster import DaskCluster, dask_cluster


@pytest.fixture
def browser() -> Iterator[webdriver.Chrome]:
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="session")
def loop() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture
def gateway(loop: LoopThread, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """A gateway; parametrise indirectly for another host name than 127.0.0.1."""
    with running_gateway(loop) as running:
        running.host = getattr(request, "param", running.host)
        yield running


@pytest.fixture(scope="session")
def dask() -> Iterator[DaskCluster]:
    """A real scheduler with its Bokeh server, and two workers."""
    with dask_cluster() as cluster:
        yield cluster
