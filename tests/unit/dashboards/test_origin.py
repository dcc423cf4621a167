"""Which requests come from foreign pages."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDict

from penstock.dashboards import refuse_foreign_origins
from penstock.dashboards.origin import foreign

HOST = {"Host": "gateway.example.org:8000"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://gateway.example.org:8000"},
        {"Origin": "https://GATEWAY.example.org:8000"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://gateway.example.org", "Host": "gateway.example.org"},
        {"Origin": "https://gateway.example.org", "Host": "gateway.example.org:443"},
        {"Origin": "http://[::1]:8000", "Host": "[::1]:8000"},
    ],
)
def test_own_pages_and_programs(headers: dict[str, str]) -> None:
    assert not foreign(CIMultiDict({**HOST, **headers}))


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://evil.example.org"},
        {"Origin": "http://gateway.example.org"},
        {"Origin": "http://gateway.example.org:8001"},
        {"Origin": "http://gateway.example.org:8000.evil.example"},
        {"Origin": "http://gateway.example.org:99999999"},
        {"Origin": "http://["},
        {"Origin": "ftp://gateway.example.org:8000"},
        {"Origin": "http://gateway.example.org:8000", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "something new"},
    ],
)
def test_foreign_pages(headers: dict[str, str]) -> None:
    assert foreign(CIMultiDict({**HOST, **headers}))


async def test_the_middleware_refuses_changes_and_sockets_of_foreign_pages() -> None:
    async def fine(_: web.Request) -> web.Response:
        return web.Response(text="fine")

    app = web.Application(middlewares=[refuse_foreign_origins])
    app.router.add_route("*", "/{rest:.*}", fine)
    evil = {"Origin": "null"}
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    async with TestClient(TestServer(app)) as client:

        async def status(method: str, path: str, headers: dict[str, str]) -> int:
            async with client.request(method, path, headers=headers) as answer:
                return answer.status

        for method in ("POST", "PUT", "PATCH", "DELETE", "PURGE"):
            assert await status(method, "/api/v1/clusters/", evil) == 403
            assert await status(method, "/api/v1/clusters/", {}) == 200
        assert await status("GET", "/api/v1/clusters/", evil) == 200
        assert await status("GET", "/api/v1/clusters/x/channel", evil | upgrade) == 403
        assert await status("GET", "/api/v1/clusters/x/channel", upgrade) == 200
        # The dashboards decide about their own sockets.
        assert await status("GET", "/clusters/x/status/ws", evil | upgrade) == 200
        assert await status("POST", "/clusters/x/status", evil) == 403
