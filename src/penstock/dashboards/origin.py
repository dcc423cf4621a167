"""Which requests a browser sends on behalf of a foreign page: those may change nothing.

A browser adds cookies and remembered passwords to requests that another page makes, so neither
proves that the user wants it. Browsers do say which page asks (``Origin``, ``Sec-Fetch-Site``), and
pages cannot forge that. Programs send neither header and are told by their credentials alone.
Tokens in forms would need state in every client; the unmodified ``dask_gateway`` knows none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from aiohttp import web

PREFIX = "/clusters/"
"""Where the dashboards are mounted."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS = {"http": 80, "https": 443}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def foreign(headers: Mapping[str, str]) -> bool:
    """True when a browser says that another site's page, or a sandboxed one, asks.

    ``headers`` must find names in any case. The scheme of ``Origin`` is not compared: a proxy in
    front may have ended TLS, and a page of the same host and port under another scheme can only
    come from that host. Source: Fetch Standard (Origin), W3C Fetch Metadata (Sec-Fetch-Site).
    """
    site = headers.get("Sec-Fetch-Site", "none").lower()
    if site not in ("none", "same-origin"):
        return True
    origin = headers.get("Origin")
    return origin is not None and not _same_host(origin, headers.get("Host", ""))


def foreign_origin(request: web.Request) -> bool:
    """True when a browser sends this request for a page that is not the gateway's own."""
    return foreign(request.headers)


def is_websocket(headers: Mapping[str, str]) -> bool:
    """True for the handshake of a WebSocket."""
    return headers.get("Upgrade", "").strip().lower() == "websocket"


@web.middleware
async def refuse_foreign_origins(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse changes and WebSockets that foreign pages ask for, whoever's credentials they carry.

    The dashboards' WebSockets are left to the dashboards: they come from sandboxed pages by
    design, and are authorised by their path instead.
    """
    changes = request.method not in SAFE_METHODS
    socket = is_websocket(request.headers) and not request.path.startswith(PREFIX)
    if (changes or socket) and foreign_origin(request):
        text = "Another site's page asked for this, so it was refused; open Penstock's own page."
        return web.json_response({"error": text}, status=403)
    return await handler(request)


def _same_host(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
        own = urlsplit(f"{parts.scheme}://{host}")
        default = _DEFAULT_PORTS[parts.scheme]
        return bool(parts.hostname) and (parts.hostname, parts.port or default) == (
            own.hostname,
            own.port or default,
        )
    except (ValueError, KeyError):
        return False
