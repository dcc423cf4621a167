"""Dashboards of schedulers for their users' browsers, and for nobody else's.

grants    who may look: tickets in links, session cookies, capabilities in paths (pure)
access    may this request be served, and how (pure)
paths     which paths and addresses pass (pure)
headers   which headers pass, and the sandbox (pure)
origin    which requests a browser sends for a foreign page; also for the API
pages     Penstock's own pages
proxy     HTTP as a stream          sockets   WebSockets
routes    puts them together
"""

from penstock.dashboards.grants import Lifetimes, ticket_route
from penstock.dashboards.origin import foreign_origin, refuse_foreign_origins
from penstock.dashboards.paths import masked
from penstock.dashboards.proxy import Bounds
from penstock.dashboards.routes import add_routes

__all__ = [
    "Bounds",
    "Lifetimes",
    "add_routes",
    "foreign_origin",
    "masked",
    "refuse_foreign_origins",
    "ticket_route",
]
