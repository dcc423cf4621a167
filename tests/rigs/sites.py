"""Pages of other people's web sites, for tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def page(body: Callable[[], str], **headers: str) -> Handler:
    """A handler that serves an HTML page."""

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(
            text=f"<!doctype html><title>a page</title>{body()}",
            content_type="text/html",
            headers=headers,
        )

    return handler
