"""The aiohttp application of the server: API, channel and dashboards under one roof."""

from __future__ import annotations

from weakref import WeakSet

from aiohttp import web

from penstock.api import channel, clusters, insight, metrics, relay
from penstock.api.body import MAX_BODY
from penstock.api.errors import Handler, errors_as_json
from penstock.api.rate import Changes
from penstock.api.services import SERVED, SERVICES, Services
from penstock.api.session import authenticate
from penstock.dashboards import add_routes as add_dashboards
from penstock.dashboards import refuse_foreign_origins


@web.middleware
async def note_served(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Note that a connection brought a request; one that never does is cut off."""
    if request.transport is not None:
        request.app[SERVED].add(request.transport)
    return await handler(request)


def make_app(services: Services) -> web.Application:
    """The application for one server's services."""
    app = web.Application(
        middlewares=[note_served, errors_as_json, refuse_foreign_origins], client_max_size=MAX_BODY
    )
    app[SERVICES] = services
    app[SERVED] = WeakSet()
    app[clusters.CHANGES] = Changes()
    app.add_routes([*clusters.ROUTES, *insight.ROUTES, *relay.ROUTES])
    channel.add_routes(app)
    metrics.add_routes(app)
    add_dashboards(
        app,
        get_cluster=services.control.get,
        signer=services.signer,
        authenticate=authenticate,
        lifetimes=services.lifetimes,
        frame_ancestors=services.settings.dashboards.frame_ancestors,
    )
    return app
