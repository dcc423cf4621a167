"""What the handlers of one server share; put together by ``penstock.server``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from weakref import WeakSet

from aiohttp import web

from penstock.auth import Authenticator, Signer, User
from penstock.control import Control
from penstock.dashboards import Lifetimes
from penstock.model.cluster import Cluster
from penstock.model.errors import NotFound
from penstock.model.ids import CLUSTER_NAME
from penstock.settings import Settings
from penstock.telemetry.metrics import Measurement


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a handler may use. ``own_ports`` are TCP ports that no agent may announce."""

    settings: Settings
    control: Control
    authenticator: Authenticator
    signer: Signer
    own_ports: frozenset[int] = frozenset()
    listeners: Mapping[int, int] = field(default_factory=dict)
    """Port → position in ``settings.listen``: a listener has its own default profile."""
    clock: Callable[[], float] = time.time
    door_restarts: Callable[[], int] = lambda: 0
    """How many doors the server had to start anew, for the metrics."""
    measured: Callable[[], Sequence[Measurement]] = tuple
    """The batch systems' own numbers, for the metrics."""
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server ends: long polls answer at once, so that clients ask the next server."""

    @property
    def lifetimes(self) -> Lifetimes:
        """How long dashboard links, browsers' logins and open pages hold."""
        pages = self.settings.dashboards
        return Lifetimes(pages.ticket_lifetime, pages.session_lifetime, pages.page_lifetime)


SERVICES = web.AppKey("services", Services)
SERVED = web.AppKey("served", WeakSet[asyncio.BaseTransport])
"""Connections that have brought a request, as far as they are still open."""


def services(request: web.Request) -> Services:
    """The services of the server that got this request."""
    return request.app[SERVICES]


def listener(request: web.Request) -> int:
    """Position in ``settings.listen`` of the address that this request came in by."""
    transport = request.transport
    name = transport.get_extra_info("sockname") if transport is not None else None
    if isinstance(name, tuple):
        return services(request).listeners.get(name[1], 0)
    return 0


def is_cluster_name(text: str) -> bool:
    """True for text that may be a cluster's name; anything else cannot exist."""
    return CLUSTER_NAME.fullmatch(text) is not None


def own_cluster(request: web.Request, user: User, *, admins: bool = False) -> Cluster:
    """The cluster that the path names, if it is this user's (or ``admins`` may and they are one).

    Raises NotFound in the same words when there is none and when it is somebody else's.
    """
    name = request.match_info["cluster_name"]
    cluster = services(request).control.get(name) if is_cluster_name(name) else None
    if cluster is None or not (cluster.user == user.name or (admins and user.admin)):
        shown = name if is_cluster_name(name) else repr(name[:64])
        raise NotFound(f"Cluster {shown} not found")
    return cluster
