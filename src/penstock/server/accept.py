"""Sockets that the door hands over become connections of the HTTP server.

The bytes were only peeked at, so a TLS hello is still unread and HTTPS ends here. Certificates
are read again when their files change: a renewal needs no restart.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from socket import socket

import structlog
from aiohttp import web

HANDSHAKE = 15.0
"""Seconds that a client has for its TLS handshake."""

FIRST_REQUEST = 30.0
"""Seconds until a connection's first request must have arrived; aiohttp itself waits for ever."""

log = structlog.get_logger("penstock.server")


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A server certificate (PEM, with its chain) and its key."""

    certificate: Path
    key: Path


class Certificate:
    """An SSL context that follows its files."""

    def __init__(self, files: CertificateFiles) -> None:
        """Raises OSError or ssl.SSLError when the files cannot be used."""
        self._files = files
        self._stamp = self._look()
        self._context = self._load()
        self._trouble = ""

    def context(self) -> ssl.SSLContext:
        """The current context; with a broken new certificate the old one goes on."""
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                self._context = self._load()
                log.info("certificate read again", file=str(self._files.certificate))
                self._trouble = ""
        except (OSError, ssl.SSLError) as error:
            if str(error) != self._trouble:  # once, and not for every connection
                log.error(
                    "the new certificate cannot be used, the old one goes on",
                    file=str(self._files.certificate),
                    error=str(error),
                )
            self._trouble = str(error)
        return self._context

    def _look(self) -> tuple[int, ...]:
        paths = (self._files.certificate, self._files.key)
        return tuple(part for p in paths for part in (p.stat().st_mtime_ns, p.stat().st_ino))

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self._files.certificate, self._files.key)
        return context


class Acceptor:
    """Takes accepted sockets for one aiohttp server. ``certificates`` are by port.

    ``served`` holds the transports that have brought a request; one that brings none in time is
    cut off. ``ports`` are those of the HTTP server: an address for the schedulers' traffic alone
    must be no way around HTTPS.
    """

    def __init__(
        self,
        server: web.Server,
        certificates: Mapping[int, Certificate],
        served: Container[asyncio.BaseTransport],
        ports: Container[int],
    ) -> None:
        self._server = server
        self._served = served
        self._ports = ports
        self._redirect = web.Server(_to_https)
        self._misdirected = web.Server(_not_here)
        self._certificates = certificates
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, connection: socket, is_tls: bool) -> None:
        """Serve a connection from here on; never raises, never blocks."""
        task = asyncio.get_running_loop().create_task(self._serve(connection, is_tls))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket, is_tls: bool) -> None:
        loop = asyncio.get_running_loop()
        try:
            port = connection.getsockname()[1]
            certificate = self._certificates.get(port)
            if is_tls and certificate is None:
                connection.close()
                return
            transport, _ = await loop.connect_accepted_socket(
                self._server_of(port, is_tls),
                connection,
                ssl=certificate.context() if certificate is not None and is_tls else None,
                ssl_handshake_timeout=HANDSHAKE if is_tls else None,
            )
            loop.call_later(FIRST_REQUEST, self._hurry, transport)
        except (OSError, ssl.SSLError, asyncio.TimeoutError) as error:
            log.debug("connection ended early", error=str(error))
            connection.close()

    def _server_of(self, port: int, is_tls: bool) -> web.Server:
        if port not in self._ports:
            return self._misdirected
        return self._redirect if port in self._certificates and not is_tls else self._server

    def _hurry(self, transport: asyncio.Transport) -> None:
        if transport not in self._served:
            transport.abort()

    async def aclose(self) -> None:
        """Drop connections that are still being set up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._redirect.shutdown(1.0)
        await self._misdirected.shutdown(1.0)


async def _to_https(request: web.BaseRequest) -> web.StreamResponse:
    """Plain HTTP at an HTTPS address: the same place, but safely."""
    url = request.url.with_scheme("https")
    return web.Response(status=308, headers={"Location": str(url)})


async def _not_here(request: web.BaseRequest) -> web.StreamResponse:
    """HTTP at an address that is not for it."""
    text = "This address is for the schedulers' traffic alone; ask the gateway's own address."
    return web.json_response({"error": text}, status=421)
