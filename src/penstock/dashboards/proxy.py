"""HTTP to a cluster's own server and back, as a stream.

The other side is hostile: nothing of its answer is kept in memory or unpacked, nothing is followed,
each step has a deadline, and the number of connections to one scheduler is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp
from aiohttp import web
from yarl import URL

from penstock.dashboards import headers, pages, paths


@dataclass(frozen=True, slots=True)
class Bounds:
    """Times in seconds, sizes in bytes, counts.

    ``connect``: until a connection stands, waiting for a free one included. ``stall``: without a
    byte from the scheduler, or with a viewer who takes none. ``connections``: to one scheduler.
    ``message``: one WebSocket message, either way (20 MiB is what Bokeh's server takes).
    """

    connect: float = 10.0
    stall: float = 60.0
    connections: int = 100
    all_connections: int = 4000
    message: int = 20 * 2**20
    heartbeat: float = 30.0


class _Redirected(aiohttp.ClientError):
    """A scheduler tried to send the proxy elsewhere during a WebSocket handshake."""


def open_session(bounds: Bounds) -> aiohttp.ClientSession:
    """The HTTP client for all schedulers: keeps no cookies, unpacks nothing, never redirects."""

    async def stop(*_: object) -> None:
        # ``ws_connect`` has no way to be told; without this it would follow (aiohttp 3.9 to 3.14).
        raise _Redirected("it answered with a redirect")

    trace = aiohttp.TraceConfig(trace_config_ctx_factory=SimpleNamespace)
    trace.on_request_redirect.append(stop)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=bounds.all_connections, limit_per_host=bounds.connections
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(
            total=None, connect=bounds.connect, sock_connect=bounds.connect, sock_read=bounds.stall
        ),
        auto_decompress=False,
        trust_env=False,
        trace_configs=[trace],
    )


@dataclass(frozen=True, slots=True)
class Target:
    """Where one request goes, and how its answer is dressed."""

    base: str
    asked: paths.Asked
    frame_ancestors: Sequence[str]
    max_age: float

    @property
    def url(self) -> URL:
        """The scheduler's address of the page; the path was checked and stays as it came."""
        return URL(self.base + self.asked.page, encoded=True)

    def dressing(self) -> dict[str, str]:
        """The headers that every answer gets."""
        policy = headers.page_policy(self.frame_ancestors)
        return headers.security_headers(policy, shared=self.asked.token is not None)

    def failed(self, status: int, text: str) -> web.Response:
        """Penstock's own page about a scheduler that did not do its part."""
        return pages.unreachable(status, text, self.frame_ancestors)


async def forward(
    session: aiohttp.ClientSession, request: web.Request, target: Target, bounds: Bounds
) -> web.StreamResponse:
    """Pass a GET or HEAD on and stream the answer; a failure becomes a page that says so."""
    try:
        async with session.request(
            request.method,
            target.url,
            headers=headers.request_headers(request.headers),
            allow_redirects=False,
        ) as answer:
            return await _answer(request, answer, target, bounds)
    except asyncio.TimeoutError:
        return target.failed(504, "The cluster's scheduler took too long to answer; try again.")
    except aiohttp.ClientError:
        return target.failed(502, "The cluster's scheduler did not answer properly; try again.")


async def _answer(
    request: web.Request, answer: aiohttp.ClientResponse, target: Target, bounds: Bounds
) -> web.StreamResponse:
    dressed = headers.response_headers(answer.headers, max_age=target.max_age)
    dressed.update(target.dressing())
    if answer.status in (301, 302, 303, 307, 308):
        location = paths.rewrite_location(
            answer.headers.get("Location", ""), target.base, target.asked.page, target.asked.prefix
        )
        if location is None:
            return target.failed(502, "The dashboard leads to another place, which is refused.")
        dressed["Location"] = location
    if not 200 <= answer.status <= 599:
        return target.failed(502, "The cluster's scheduler did not answer properly.")
    # The standard phrase for the status: the scheduler's own words are not needed here.
    response = web.StreamResponse(status=answer.status, headers=dressed)
    if answer.content_length is not None:
        response.content_length = answer.content_length
    await _stream(request, answer, response, bounds)
    return response


async def _stream(
    request: web.Request,
    answer: aiohttp.ClientResponse,
    response: web.StreamResponse,
    bounds: Bounds,
) -> None:
    """Copy the body at the viewer's pace; an answer that is cut off is cut off for the viewer."""
    try:
        await response.prepare(request)
        if request.method != "HEAD":
            async for chunk in answer.content.iter_any():
                await asyncio.wait_for(response.write(chunk), bounds.stall)
        await response.write_eof()
    except (aiohttp.ClientError, ConnectionError, asyncio.TimeoutError):
        # Ending the response properly would pass half a page off as a whole one.
        if request.transport is not None:
            request.transport.abort()
