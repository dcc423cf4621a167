"""The server's side of the front door: sockets come in, routes go out."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from socket import socket

from aiohttp import web

from penstock.api.services import SERVED, SERVICES
from penstock.door.link import DoorLink
from penstock.server.accept import Acceptor, Certificate

GRACE = 3.0
"""Seconds for requests that are under way when the server ends."""

MAX_HEADER = 16 * 1024


class Front:
    """The link to one door, there before the application that it brings sockets to."""

    def __init__(self, door_socket: str) -> None:
        self.link = DoorLink(door_socket, self._take)
        self._acceptor: Acceptor | None = None

    def publish(self, name: str, address: tuple[str, int] | None) -> None:
        """Route a cluster's TLS connections to its scheduler; None: no longer."""
        if address is None:
            self.link.drop_route(name)
        else:
            self.link.set_route(name, address)

    @contextlib.asynccontextmanager
    async def serving(
        self, app: web.Application, certificates: Mapping[int, Certificate]
    ) -> AsyncIterator[None]:
        """Serve ``app`` on what the door hands over, until the end of the block."""
        served, ports = app[SERVED], app[SERVICES].listeners.keys()
        runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=GRACE,
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            handler_cancellation=True,
        )
        await runner.setup()
        assert runner.server is not None
        self._acceptor = acceptor = Acceptor(runner.server, certificates, served, ports)
        try:
            yield
        finally:
            await acceptor.aclose()
            await runner.cleanup()

    def _take(self, connection: socket, is_tls: bool) -> None:
        if self._acceptor is None:
            connection.close()
        else:
            self._acceptor.take(connection, is_tls)
