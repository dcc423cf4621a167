"""The aiohttp application of the server: API, channel and dashboards under one roof."""

from __future__ import annotations

from aiohttp import web

from penstock.api import channel, clusters, insight
from penstock.api.body import MAX_BODY
from penstock.api.errors import errors_as_json
from penstock.api.services import SERVICES, Services
from penstock.api.session import authenticate
from penstock.dashboards import add_routes as add_dashboards
from penstock.dashboards import refuse_foreign_origins


def make_app(services: Services) -> web.Application:
    """The application for one server's services."""
    app = web.Application(
        middlewares=[errors_as_json, refuse_foreign_origins], client_max_size=MAX_BODY
    )
    app[SERVICES] = services
    app.add_routes([*clusters.ROUTES, *insight.ROUTES])
    channel.add_routes(app)
    add_dashboards(
        app,
        get_cluster=services.control.get,
        signer=services.signer,
        authenticate=authenticate,
        lifetimes=services.lifetimes,
        frame_ancestors=services.settings.dashboards.frame_ancestors,
    )
    return app
