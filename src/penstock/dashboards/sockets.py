"""A WebSocket to a cluster's own server, relayed both ways.

Messages are passed whole, one at a time in each direction, so a slow side slows the other; pings
are answered on each side by itself, which finds dead viewers also when the scheduler never pings.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import TypeAlias

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web

from penstock.dashboards.proxy import Bounds, Target

Side: TypeAlias = "web.WebSocketResponse | aiohttp.ClientWebSocketResponse[bool]"
MAX_PROTOCOLS = 8


class Sockets:
    """All relayed WebSockets, so that a stopping server can end them."""

    def __init__(self, session: aiohttp.ClientSession, bounds: Bounds) -> None:
        self._session = session
        self._bounds = bounds
        self._open: weakref.WeakSet[web.WebSocketResponse] = weakref.WeakSet()

    async def relay(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Connect to the scheduler first, then accept the viewer's handshake with its choice.

        Bokeh's session token travels as a second subprotocol, so all offered ones are passed on.
        """
        try:
            scheduler = await self._connect(request, target)
        except aiohttp.WSServerHandshakeError as error:
            refused = 400 <= error.status < 500
            return target.failed(
                error.status if refused else 502, "The scheduler refused the WebSocket."
            )
        except (aiohttp.ClientError, asyncio.TimeoutError):
            return target.failed(502, "The cluster's scheduler did not answer properly.")
        viewer = web.WebSocketResponse(
            protocols=(scheduler.protocol,) if scheduler.protocol else (),
            autoclose=False,
            heartbeat=self._bounds.heartbeat,
            max_msg_size=self._bounds.message,
            compress=False,
        )
        try:
            await viewer.prepare(request)
            self._open.add(viewer)
            await self._couple(viewer, scheduler)
        finally:
            await scheduler.close(code=WSCloseCode.GOING_AWAY)
        return viewer

    async def aclose(self) -> None:
        """Tell every viewer that the server goes away; pages then connect again by themselves."""
        await asyncio.gather(
            *(each.close(code=WSCloseCode.GOING_AWAY) for each in list(self._open)),
            return_exceptions=True,
        )

    async def _connect(
        self, request: web.Request, target: Target
    ) -> aiohttp.ClientWebSocketResponse[bool]:
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        protocols = [word.strip() for word in offered.split(",") if word.strip()]
        return await asyncio.wait_for(
            self._session.ws_connect(
                target.url,
                protocols=protocols[:MAX_PROTOCOLS],
                origin=target.base,
                autoclose=False,
                headers={"User-Agent": "Penstock"},
                heartbeat=self._bounds.heartbeat,
                max_msg_size=self._bounds.message,
            ),
            self._bounds.stall,
        )

    async def _couple(
        self, viewer: web.WebSocketResponse, scheduler: aiohttp.ClientWebSocketResponse[bool]
    ) -> None:
        """Copy both ways until one side ends, then end the other with the same code."""
        ways = (
            asyncio.create_task(self._pump(viewer, scheduler)),
            asyncio.create_task(self._pump(scheduler, viewer)),
        )
        try:
            ended, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Both must be at rest before a close: one that is in the middle of it would cut it off.
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        first = ended.pop()
        code, reason = first.result()
        # The other side first: a viewer's closed connection may end this very task.
        sides = (scheduler, viewer) if first is ways[0] else (viewer, scheduler)
        for side in sides:
            await side.close(code=code, message=reason)

    async def _pump(self, source: Side, sink: Side) -> tuple[int, bytes]:
        """Copy messages until a side ends; returns the code and reason to end the other with."""
        stall = self._bounds.stall
        try:
            while True:
                message = await source.receive()
                if message.type is WSMsgType.TEXT:
                    await asyncio.wait_for(sink.send_str(message.data), stall)
                elif message.type is WSMsgType.BINARY:
                    await asyncio.wait_for(sink.send_bytes(message.data), stall)
                elif message.type is WSMsgType.CLOSE:
                    return passable(message.data), (message.extra or "").encode()[:120]
                else:
                    return passable(source.close_code), b""
        except (ConnectionError, asyncio.TimeoutError):
            return WSCloseCode.GOING_AWAY, b""


def passable(code: int | None) -> int:
    """A close code as it may be sent: 1005, 1006 and 1015 are never on the wire (RFC 6455, 7.4)."""
    if code is None or code in (1004, 1005, 1006, 1015) or not 1000 <= code <= 4999:
        return WSCloseCode.GOING_AWAY
    return code
