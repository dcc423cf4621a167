"""One request to slurmrestd at a time, over its Unix socket or HTTPS.

With ``http.client``, which reads what belongs to an answer and nothing more: slurmrestd 26.05 sends
some answers two or three times, for which aiohttp refuses even the first. It blocks, so each request
has a thread; they are slurmrestd's own, as hanging ones must not take those of others.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from penstock.model.errors import Unavailable, Uncertain

AT_ONCE = 16
"""Requests at a time."""


class Http:
    """``url``: as in the settings. ``timeout``: seconds for all of a request."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="slurmrestd")
        self._tls = ssl.create_default_context() if url.startswith("https:") else None
        self._open: set[http.client.HTTPConnection] = set()

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: object = None
    ) -> tuple[int, bytes]:
        """Status and body of the answer. Raises Unavailable when it was not sent, or Uncertain."""
        data = None if body is None else json.dumps(body).encode()
        work = asyncio.get_running_loop().run_in_executor(
            self._threads, self._ask, method, f"/{path}", dict(headers), data
        )
        try:
            return await asyncio.wait_for(work, self._timeout)
        except (asyncio.TimeoutError, TimeoutError):
            raise Uncertain(f"slurmrestd at {self._url} did not answer in time") from None

    def _ask(
        self, method: str, path: str, headers: dict[str, str], data: bytes | None
    ) -> tuple[int, bytes]:
        connection = self._connection()
        self._open.add(connection)
        try:
            try:
                connection.connect()
            except OSError as error:
                reason = error.strerror or str(error) or "no connection"
                raise Unavailable(
                    f"slurmrestd at {self._url} cannot be reached: {reason}"
                ) from None
            if data is not None:
                headers["Content-Type"] = "application/json"
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except TimeoutError:
            raise
        except (http.client.HTTPException, OSError) as error:
            reason = str(error) or type(error).__name__
            raise Uncertain(f"slurmrestd at {self._url} broke off: {reason}") from None
        finally:
            self._open.discard(connection)
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        where = urlsplit(self._url)
        if where.scheme == "unix":
            return _OverUnixSocket(self._url.removeprefix("unix:"), self._timeout)
        host = where.hostname or ""
        if self._tls is not None:
            return http.client.HTTPSConnection(
                host, where.port, timeout=self._timeout, context=self._tls
            )
        return http.client.HTTPConnection(host, where.port, timeout=self._timeout)

    def close(self) -> None:
        """No more requests. Those that are under way break off, or this process could not end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for connection in list(self._open):
            if isinstance(connection.sock, socket.socket):
                with contextlib.suppress(OSError):  # it is not connected yet, or over
                    connection.sock.shutdown(socket.SHUT_RDWR)


class _OverUnixSocket(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
