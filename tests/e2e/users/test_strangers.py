"""Another user's cluster does not exist; an admin may see and stop it, and no more."""

from __future__ import annotations

import json
import socket
import ssl

import aiohttp
import pytest
from dask_gateway.client import ClusterStatus
from distributed import Client
from distributed.security import Security

from rigs.agents import keypair
from rigs.gateway import wait_until

NOBODYS = "0" * 32


@pytest.fixture(scope="module")
def client(facility):
    with facility.client(facility.alice) as client:
        yield client


@pytest.fixture(scope="module")
def cluster(client):
    """Alice's."""
    with client.new_cluster() as cluster:
        cluster.scale(1)
        with cluster.get_client() as dask_client:
            dask_client.wait_for_workers(1, timeout=120)
        yield cluster


CALLS = [
    ("GET", "", None),
    ("GET", "?wait", None),
    ("DELETE", "", None),
    ("POST", "/scale", {"count": 0}),
    ("POST", "/adapt", {"minimum": 0, "maximum": 0}),
    ("GET", "/events", None),
    ("GET", "/logs", None),
    ("GET", "/live", None),
    ("GET", "/jobs", None),
    ("GET", "/channel", None),
    ("POST", "/exits", {"job": "s0-0", "code": 1}),
]


@pytest.mark.parametrize(("method", "what", "body"), CALLS)
def test_a_strangers_cluster_is_not_there(facility, cluster, method, what, body):
    theirs = facility.ask(facility.bob, method, f"/api/v1/clusters/{cluster.name}{what}", body)
    nobodys = facility.ask(facility.bob, method, f"/api/v1/clusters/{NOBODYS}{what}", body)
    assert theirs[0] == nobodys[0] == 404
    assert theirs[1].replace(cluster.name, NOBODYS) == nobodys[1]


@pytest.mark.parametrize("user", [None, "alice"])
@pytest.mark.parametrize(
    "token", ["", "Token", "token wrong", "token 🐳".encode().decode("latin-1")]
)
def test_a_channel_needs_the_clusters_own_token(facility, cluster, user, token):
    headers = {"Authorization": token} if token else {}
    path = f"/api/v1/clusters/{cluster.name}"
    name = facility.alice if user and not token else None
    for method, what, body in (("GET", "/channel", None), ("POST", "/exits", {"job": "s0-0"})):
        assert facility.ask(name, method, path + what, body, headers)[0] == 404


def test_strangers_do_not_see_it_in_lists(facility, client, cluster):
    assert cluster.name in [report.name for report in client.list_clusters()]
    for user in (facility.bob, facility.admin):
        with facility.client(user) as other:
            assert cluster.name not in [report.name for report in other.list_clusters()]


@pytest.mark.parametrize("page", ["", "status", "info/main/workers.html", "json/counts.json"])
def test_a_strangers_dashboard_is_not_there(facility, cluster, page):
    for user in (facility.bob, facility.admin):
        status, text, headers = facility.ask(user, "GET", f"/clusters/{cluster.name}/{page}")
        nobodys = facility.ask(user, "GET", f"/clusters/{NOBODYS}/{page}")
        assert status == nobodys[0] == 404, user
        assert text.replace(cluster.name, NOBODYS) == nobodys[1]
        assert "set-cookie" not in headers


async def test_a_strangers_dashboard_socket_is_not_there(facility, cluster):
    path = f"{facility.addresses[0]}/clusters/{cluster.name}/status/ws"
    async with aiohttp.ClientSession() as session:
        for user in (facility.bob, facility.admin):
            with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
                await session.ws_connect(path, headers={"Authorization": facility.basic(user)})


def test_the_owner_sees_their_dashboard(facility, cluster):
    status, text, _ = facility.ask(
        facility.alice, "GET", f"/clusters/{cluster.name}/json/counts.json"
    )
    assert status == 200
    assert json.loads(text)["workers"] >= 1


def test_a_strangers_certificate_opens_no_scheduler(facility, cluster):
    """By SNI the door routes anybody; the scheduler lets in only whoever has the cluster's key."""
    host, port = facility.addresses[0].removeprefix("http://").split(":")
    cert, key = keypair()
    security = Security(
        tls_ca_file=cert, tls_client_cert=cert, tls_client_key=key, require_encryption=True
    )
    with pytest.raises((OSError, TimeoutError)):
        Client(f"gateway://{host}:{port}/{cluster.name}", security=security, timeout=10)
    with pytest.raises(OSError, match=r"(?i)certificate|alert|reset|eof|closed"):
        speak(host, int(port), f"daskgateway-{cluster.name}")


def speak(host, port, name):
    """TLS without any certificate; raises OSError however the other side refuses."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        tls.sendall(b"x")
        while tls.recv(4096):
            pass
    raise ConnectionResetError("closed without a word")


def test_an_admin_sees_the_state_but_no_keys_and_no_output(facility, cluster):
    path = f"/api/v1/clusters/{cluster.name}"
    status, text, _ = facility.ask(facility.admin, "GET", path)
    shown = json.loads(text)
    assert status == 200
    assert (shown["status"], shown["name"]) == ("RUNNING", cluster.name)
    assert shown["tls_key"] is shown["tls_cert"] is shown["dashboard_route"] is None
    assert facility.ask(facility.admin, "GET", f"{path}/events")[0] == 200
    assert json.loads(facility.ask(facility.admin, "GET", f"{path}/live")[1])["user"] == (
        facility.alice
    )
    assert facility.ask(facility.admin, "GET", f"{path}/logs")[0] == 404
    assert facility.ask(facility.admin, "POST", f"{path}/scale", {"count": 9})[0] == 404


def test_an_admin_stops_it_and_the_user_reads_by_whom(facility, client):
    name = client.submit()
    with facility.client(facility.admin) as admin:
        admin.stop_cluster(name)
    wait_until(lambda: client.get_cluster(name).status is ClusterStatus.STOPPED, "it stops")
    text = facility.ask(facility.alice, "GET", f"/api/v1/clusters/{name}/events")[1]
    assert json.loads(text)["reason"] == f"stopped by {facility.admin}"
