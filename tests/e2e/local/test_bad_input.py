"""Whatever is sent, the answer is a clear error, and the gateway goes on."""

from __future__ import annotations

import base64
import json
import socket
import urllib.error
import urllib.request

import pytest

NAME = "0" * 32


@pytest.fixture
def call(gateway):
    """Call the API as its user: (status, body as text)."""
    word = base64.b64encode(f"{gateway.user}:{gateway.password}".encode()).decode()

    def call(method, path, body=None, *, kind="application/json", headers=None):
        request = urllib.request.Request(gateway.address + path, data=body, method=method)
        request.add_header("Authorization", f"Basic {word}")
        if body is not None:
            request.add_header("Content-Type", kind)
        for key, value in (headers or {}).items():
            request.add_header(key, value)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    yield call
    assert call("GET", "/api/v1/clusters/")[0] == 200  # it still serves


def error_of(answer, status):
    assert answer[0] == status, answer
    return json.loads(answer[1])["error"]


def create(call, options):
    return call("POST", "/api/v1/clusters/", json.dumps({"cluster_options": options}).encode())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"cluster_options": 7}', "must be an object"),
        (b'{"cluster_options": {"worker_cores": NaN}}', "not JSON"),
    ],
)
def test_json_that_is_not(call, body, words):
    assert words in error_of(call("POST", "/api/v1/clusters/", body), 422)


def test_a_form_is_no_json(call):
    body = json.dumps({"count": 1}).encode()
    answer = call("POST", "/api/v1/clusters/", body, kind="text/plain")
    assert "application/json" in error_of(answer, 422)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"worker_cores": "four"}, "worker_cores"),
        ({"worker_cores": -1}, "worker_cores"),
        ({"worker_cores": True}, "worker_cores"),
        ({"worker_memory": "much"}, "worker_memory"),
        ({"worker_memory": 1e9}, "worker_memory"),
        ({"profile": "no\nsuch"}, "profile"),
        ({"env": {"A": "x\0y"}}, "env"),
        ({"env": {"A=B": "x"}}, "env"),
        ({"env": {"": "x"}}, "env"),
        ({"env": {"A": 7}}, "env"),
        ({"env": "A=1"}, "env"),
        ({"venv": "relative/path"}, "venv"),
        ({"venv": "/tmp/../etc"}, "venv"),
        ({"venv": "/no/such/place; rm -rf /"}, "venv"),
        ({"venv": "/no/such/$(reboot)\n"}, "venv"),
        ({"Worker_Cores": 1}, "worker_cores"),
    ],
)
def test_options_of_wrong_kind_or_range(call, options, words):
    assert words in error_of(create(call, options), 422)


def test_several_mistakes_are_told_at_once(call):
    text = error_of(create(call, {"worker_cores": 0, "colour": "blue", "venv": "x"}), 422)
    assert all(word in text for word in ("worker_cores", "colour", "venv"))


def test_ten_megabytes_of_environment(call):
    assert "env" in error_of(create(call, {"env": {"BIG": "x" * 10_000_000}}), 422)


def test_more_than_the_server_reads(call):
    answer = create(call, {"env": {"BIG": "x" * 13_000_000}})
    assert "12 MiB" in error_of(answer, 413)


@pytest.mark.parametrize("count", [-1, 10**9, 10**400, "3", 1.5, None, True, [1]])
def test_scale_counts_that_are_none(call, count):
    answer = call("POST", f"/api/v1/clusters/{NAME}/scale", json.dumps({"count": count}).encode())
    assert "not found" in error_of(answer, 404)


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "a" * 5000,
        "%0d%0aSet-Cookie:%20a=b",
        "%F0%9F%90%B3",
        "$(id)",
    ],
)
def test_names_that_cannot_be(call, name):
    for method, what in (("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/logs")):
        text = error_of(call(method, f"/api/v1/clusters/{name}{what}"), 404)
        assert "\n" not in text


def test_unknown_addresses_and_methods(call):
    error_of(call("GET", "/api/v2/everything"), 404)
    error_of(call("PATCH", "/api/v1/clusters/"), 405)


def test_bad_queries(call):
    assert "'dead'" in error_of(call("GET", "/api/v1/clusters/?status=dead"), 422).lower()


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + base64.b64encode(b"nocolon").decode()},
        {"Authorization": "Bearer x"},
        {"Authorization": "Basic " + base64.b64encode(b"root:\xff\xfe").decode()},
        {"Authorization": "", "Cookie": "penstock-session=forged.forged"},
    ],
)
def test_credentials_that_are_none(call, headers):
    error_of(call("GET", "/api/v1/clusters/", headers=headers), 401)


@pytest.mark.parametrize("token", ["", "token", "token wrong", "Basic x"])
def test_a_wrong_cluster_token_opens_nothing(call, token):
    for method, path in (("GET", "channel"), ("POST", "exits")):
        body = b"{}" if method == "POST" else None
        answer = call(
            method, f"/api/v1/clusters/{NAME}/{path}", body, headers={"Authorization": token}
        )
        error_of(answer, 404)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n",  # truncated
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"POST /api/v1/clusters/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{}",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"\x00" * 100,
        b"",
    ],
)
def test_bytes_that_are_no_request(gateway, call, raw):
    host, port = gateway.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := _receive(connection):
            answer += chunk
    assert b" 200 " not in answer.split(b"\r\n")[0]


def test_truncated_uploads_make_nothing(gateway, call):
    """The connection ends in the middle of a body that would be right."""
    word = base64.b64encode(f"{gateway.user}:{gateway.password}".encode()).decode()
    body = json.dumps({"cluster_options": {}}).encode()
    head = (
        "POST /api/v1/clusters/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Basic {word}\r\n"
    )
    host, port = gateway.address.removeprefix("http://").split(":")
    for raw in (
        f"Content-Length: {len(body) + 1}\r\n\r\n".encode() + body,
        b"Content-Length: 10000000\r\n\r\n" + body,
        b"Transfer-Encoding: chunked\r\n\r\n15\r\n" + body[:10],
        b"Transfer-Encoding: chunked\r\n\r\nfffffffff\r\n" + body,
    ):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(head.encode() + raw)
            connection.shutdown(socket.SHUT_WR)
            while _receive(connection):
                pass
    every = "pending,running,stopping,stopped,failed"
    assert json.loads(call("GET", f"/api/v1/clusters/?status={every}")[1]) == {}


@pytest.mark.parametrize("depth", [100, 900, 960, 990, 5000])
@pytest.mark.parametrize("option", ["worker_cores", "profile", "env", "venv", "colour"])
def test_deeply_nested_values(call, depth, option):
    deep = "[" * depth + "]" * depth
    for options in (deep, f'{{"{option}": {deep}}}', f'{{"{option}": {{"A": {deep}}}}}'):
        body = f'{{"cluster_options": {options}}}'
        assert error_of(call("POST", "/api/v1/clusters/", body.encode()), 422)


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""
