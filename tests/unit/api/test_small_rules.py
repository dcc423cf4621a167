"""Rates, listening sockets, query flags and statuses."""

import os
import socket

import pytest

from penstock.api.clusters import cluster_json, flag, parse_statuses
from penstock.api.rate import Bucket, Changes
from penstock.api.sockets import Listeners
from penstock.model.cluster import Cluster, ClusterSpec, GroupSpec, Status
from penstock.model.errors import Invalid

NAME = "0" * 32


def test_a_bucket_allows_a_burst_then_its_rate():
    bucket = Bucket.full(rate=2, burst=3, now=0)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(0.5)
    assert not bucket.take(0.5)
    assert [bucket.take(100) for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_jumps_back_gives_nothing_and_takes_nothing():
    bucket = Bucket.full(rate=1, burst=1, now=100)
    assert bucket.take(100)
    assert not bucket.take(50)
    assert bucket.take(51)


def test_users_change_things_at_their_own_rate():
    changes = Changes(rate=1, burst=2, most=3)
    assert [changes.take("ada", 0) for _ in range(3)] == [True, True, False]
    assert changes.take("bob", 0)
    assert changes.take("ada", 1)
    assert not changes.take("ada", 1)
    for number in range(10):  # names that are made up cost no memory
        assert changes.take(f"user {number}", 1)
    assert len(changes._buckets) <= 3


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_listening_sockets_are_found_with_their_owner(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        port = listener.getsockname()[1]
        assert Listeners().uids(host, port) == set()
        listener.listen()
        assert Listeners().uids(host, port) == {os.getuid()}


def test_a_port_that_appears_later_is_seen_at_once():
    listeners = Listeners()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert listeners.uids("127.0.0.1", port) == set()
        listener.listen()
        assert listeners.uids("127.0.0.1", port) == {os.getuid()}
        assert listeners.uids("127.0.0.2", port) == set()


def test_statuses_are_parsed_as_the_client_sends_them():
    assert parse_statuses(None) is None
    assert parse_statuses("PENDING,running") == [Status.PENDING, Status.RUNNING]
    with pytest.raises(Invalid, match="'DEAD' is not a cluster status; use one of pending"):
        parse_statuses("dead")


def test_flags():
    assert [flag(t) for t in ("", "1", "true")] == [True] * 3
    assert [flag(t) for t in (None, "0", "false")] == [False] * 3


def test_the_clients_json_has_exactly_the_keys_that_its_report_takes():
    group = GroupSpec(backend="local", python="/usr/bin/python3")
    cluster = Cluster(
        name=NAME,
        user="ada",
        owner="ada",
        spec=ClusterSpec("default", group),
        options={"worker_cores": 1},
        token="t",
        tls_cert="cert",
        tls_key="key",
        created_at=1.5,
        status=Status.RUNNING,
    )
    assert cluster_json(cluster, "/clusters/x/status", secrets=True) == {
        "name": NAME,
        "dashboard_route": "/clusters/x/status",
        "status": "RUNNING",
        "start_time": 1500,
        "stop_time": None,
        "options": {"worker_cores": 1},
        "tls_cert": "cert",
        "tls_key": "key",
    }
    assert cluster_json(cluster, None, secrets=False)["tls_key"] is None
