"""Requests to slurmrestd, against servers that answer oddly."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from penstock.backends.slurm.rest_http import Http
from penstock.model.errors import Unavailable, Uncertain
from rigs.backends import until

ANSWER = b"HTTP/1.1 422 UNPROCESSABLE CONTENT\r\nConnection: Close\r\nContent-Length: 2\r\n\r\n{}"


@contextlib.asynccontextmanager
async def answering(path, *parts: bytes, hold: bool = False):
    """A server at a Unix socket that reads a request and sends this; the requests that it got."""
    requests: list[bytes] = []
    held = asyncio.Event()

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-len")]
        body = await reader.readexactly(int(length[0].partition(b":")[2])) if length else b""
        requests.append(head + body)
        for part in parts:
            writer.write(part)
            await writer.drain()
        if hold:
            await held.wait()
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    http = Http(f"unix:{path}", timeout=0.5 if hold else 30.0)
    try:
        yield http, requests
    finally:
        held.set()
        http.close()
        server.close()
        await server.wait_closed()


async def test_an_answer_that_is_sent_three_times_counts_once(tmp_path):
    """As by slurmrestd 26.05."""
    async with answering(tmp_path / "s", ANSWER, ANSWER + ANSWER) as (http, requests):
        headers = {"X-SLURM-USER-NAME": "alice"}
        assert await http.ask("POST", "slurm/x", headers, {"job": 1}) == (422, b"{}")
    [request] = requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /slurm/x HTTP/1.1\r\n")
    assert b"X-SLURM-USER-NAME: alice" in head
    assert b"Content-Type: application/json" in head
    assert json.loads(body) == {"job": 1}


async def test_a_request_without_a_body_says_none(tmp_path):
    async with answering(tmp_path / "s", ANSWER) as (http, requests):
        await http.ask("GET", "openapi/v3", {})
    assert b"Content-Type" not in requests[0]


@pytest.mark.parametrize(
    "said", [(), (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",), (b"Hello\r\n\r\n",)]
)
async def test_an_answer_that_breaks_off_is_uncertain(tmp_path, said):
    async with answering(tmp_path / "s", *said) as (http, _):
        with pytest.raises(Uncertain, match=r"slurmrestd at unix:\S+ broke off: "):
            await http.ask("GET", "x", {})


async def test_no_answer_is_uncertain(tmp_path):
    async with answering(tmp_path / "s", hold=True) as (http, requests):
        with pytest.raises(Uncertain, match="did not answer in time"):
            await http.ask("GET", "x", {})
    assert len(requests) == 1


async def test_the_end_waits_for_nobody(tmp_path):
    async with answering(tmp_path / "s", hold=True) as (http, requests):
        http._timeout = 1000.0
        request = asyncio.ensure_future(http.ask("GET", "x", {}))
        await until(lambda: requests or None, "it was sent")
        http.close()
        with pytest.raises(Uncertain, match="broke off"):
            await request


@pytest.mark.parametrize("url", ["unix:{place}/none", "http://127.0.0.1:9", "https://localhost:9"])
async def test_what_is_not_there_got_nothing(tmp_path, url):
    http = Http(url.format(place=tmp_path), timeout=5.0)
    with pytest.raises(Unavailable, match=r"cannot be reached: (No such file|Connection refused)"):
        await http.ask("GET", "x", {})
    http.close()
