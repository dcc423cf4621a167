"""HTTPS at the gateway itself: clients, browsers and jobs by one certificate, renewed while it runs."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import sys
from base64 import b64encode

import pytest
from cryptography import x509

from rigs.authority import Authority
from rigs.facility import free_ports
from rigs.gateway import GatewayRig, wait_until
from rigs.notebooks import run_notebook

CONFIG = """
[server]
ca_file = "{directory}/ca.pem"

[[listen]]
address = "127.0.0.1:{ports[0]}"
tls_cert = "{directory}/gateway.pem"
tls_key = "{directory}/gateway.pem"
scheduler_address = "127.0.0.1:{ports[1]}"
"""


NO_CA = """
[profiles.default.limits]
start_timeout = "4 s"
"""


class Site:
    """A gateway with HTTPS, and its authority."""

    def __init__(self, more: str = "") -> None:
        self.rig = GatewayRig()
        self.authority = Authority(self.rig.directory)
        self.certificate = self.rig.directory / "gateway.pem"
        self.serial = self.authority.issue(self.certificate)
        self.port, self.scheduler_port = ports = free_ports(2)
        self.rig.config = CONFIG.format(directory=self.rig.directory, ports=ports) + more

    @property
    def trust(self) -> dict[str, str]:
        return {"SSL_CERT_FILE": str(self.authority.ca_file)}

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.authority.ca_file)

    def connect(self) -> http.client.HTTPSConnection:
        """A connection that stays open between requests."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=self.context(), timeout=60
        )
        connection.connect()
        return connection

    def clusters(self, connection: http.client.HTTPSConnection) -> dict[str, object]:
        word = b64encode(f"{self.rig.user}:{self.rig.password}".encode()).decode()
        connection.request("GET", "/api/v1/clusters/", headers={"Authorization": f"Basic {word}"})
        answer = connection.getresponse()
        assert answer.status == 200
        found: dict[str, object] = json.loads(answer.read())
        return found

    def serial_now(self) -> int:
        connection = self.connect()
        with_serial = serial_of(connection)
        connection.close()
        return with_serial


def serial_of(connection: http.client.HTTPSConnection) -> int:
    """The serial number of the certificate that this connection was made with."""
    secure = connection.sock
    assert isinstance(secure, ssl.SSLSocket)
    shown = secure.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


@pytest.fixture(scope="module")
def site():
    site = Site()
    try:
        site.rig.start()
        yield site
    finally:
        site.rig.stop()


NOTEBOOK = """
from urllib.request import urlopen
gateway = Gateway(given["address"], auth=auth, **given["more"])
out["versions"] = gateway.get_versions()
cluster = gateway.new_cluster()
out["report"] = gateway.get_cluster(cluster.name).scheduler_address
client = cluster.get_client()
cluster.scale(1)
client.wait_for_workers(1, timeout=120)
out["sum"] = client.submit(sum, [1, 2, 3]).result(timeout=60)
out["link"] = cluster.dashboard_link
with urlopen(cluster.dashboard_link, timeout=60) as page:
    out["dashboard"] = [page.status, b"bokeh" in page.read().lower()]
client.close()
cluster.shutdown()
gateway.close()
"""


def test_the_client_works_over_one_port(site):
    assert site.rig.address == f"https://127.0.0.1:{site.port}"
    out = run_notebook(site.rig, sys.executable, NOTEBOOK, environ=site.trust, more={})
    assert out["sum"] == 6  # the scheduler's agent and the workers found the server by https
    assert out["report"].startswith(f"gateway://127.0.0.1:{site.port}/")
    assert out["link"].startswith(f"https://127.0.0.1:{site.port}/")
    assert out["dashboard"] == [200, True]


def test_the_schedulers_port_works(site):
    more = {"proxy_address": site.scheduler_port}
    out = run_notebook(site.rig, sys.executable, NOTEBOOK, environ=site.trust, more=more)
    assert out["sum"] == 6
    assert out["report"].startswith(f"gateway://127.0.0.1:{site.scheduler_port}/")


def test_a_client_that_does_not_trust_the_certificate_says_so(site):
    code = """
gateway = Gateway(given["address"], auth=auth)
out["said"] = words(gateway.list_clusters)
gateway.close()
"""
    assert "CERTIFICATE_VERIFY_FAILED" in run_notebook(site.rig, sys.executable, code)["said"]


def test_plain_http_is_led_to_https(site):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    connection.request("GET", "/api/version?a=b")
    answer = connection.getresponse()
    assert answer.status == 308
    assert answer.getheader("Location") == f"https://127.0.0.1:{site.port}/api/version?a=b"
    connection.close()


def test_the_schedulers_port_is_no_way_around_https(site):
    plain = http.client.HTTPConnection("127.0.0.1", site.scheduler_port, timeout=60)
    plain.request("GET", "/api/version")
    answer = plain.getresponse()
    assert answer.status == 421
    assert b"schedulers" in answer.read()
    plain.close()
    with (
        socket.create_connection(("127.0.0.1", site.scheduler_port), timeout=60) as raw,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        site.context().wrap_socket(raw, server_hostname="127.0.0.1")


def test_a_renewed_certificate_needs_no_restart(site):
    old = site.connect()
    assert serial_of(old) == site.serial == site.serial_now()
    renewed = site.authority.issue(site.certificate)
    wait_until(lambda: site.serial_now() == renewed, "new connections see the new one", 20)
    assert site.clusters(old) == {}
    assert serial_of(old) == site.serial
    old.close()
    site.serial = renewed


def test_a_broken_certificate_changes_nothing_and_the_log_says_so(site):
    good = site.certificate.read_bytes()
    site.certificate.write_bytes(good[: len(good) // 2])
    assert site.serial_now() == site.serial
    log = site.rig.log.read_text()
    assert "the new certificate cannot be used, the old one goes on" in log
    assert str(site.certificate) in log
    for _ in range(3):
        assert site.serial_now() == site.serial
    assert site.rig.log.read_text().count("the new certificate cannot be used") == 1
    renewed = site.authority.issue(site.certificate)
    assert site.serial_now() == renewed
    site.serial = renewed


def test_a_certificate_that_goes_away_changes_nothing(site):
    kept = site.certificate.rename(site.certificate.with_name("kept.pem"))
    try:
        assert [site.serial_now() for _ in range(3)] == [site.serial] * 3
    finally:
        kept.rename(site.certificate)
    assert site.rig.log.read_text().count("No such file or directory: ") == 1
    assert site.serial_now() == site.serial


def test_jobs_that_do_not_trust_the_certificate_say_so():
    site = Site(NO_CA)
    site.rig.config = site.rig.config.replace("ca_file", "# ca_file")
    code = """
gateway = Gateway(given["address"], auth=auth)
out["said"] = words(gateway.new_cluster)
gateway.close()
"""
    try:
        site.rig.start()
        said = run_notebook(site.rig, sys.executable, code, environ=site.trust)["said"]
    finally:
        site.rig.stop()
    assert said.startswith("GatewayClusterError: ")
    assert "without reporting to the gateway (start_timeout)" in said
    assert "CERTIFICATE_VERIFY_FAILED" in said
