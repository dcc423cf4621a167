"""Clusters over REST, in the shapes that ``dask_gateway`` clients of 2024.1 to 2026.3 know.

The client builds its report with ``ClusterReport(**body)``: a key more or less in ``cluster_json``
breaks every notebook, so what we add to the peer's API stands under addresses of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web

from penstock.api.body import count, json_object, optional_count
from penstock.api.errors import Handler
from penstock.api.rate import Changes
from penstock.api.services import Services, listener, own_cluster, services
from penstock.api.session import authenticated, user_of
from penstock.auth import lookup
from penstock.dashboards import ticket_route
from penstock.environment.look import look
from penstock.model.cluster import Cluster, Status
from penstock.model.errors import Conflict, Invalid, NotFound
from penstock.settings.resolve import environments_asked, resolve

CHANGES = web.AppKey("changes", Changes)

WAIT = 30.0
"""Seconds that one ``?wait`` is held; the client asks again by itself."""


def cluster_json(
    cluster: Cluster, dashboard_route: str | None, *, secrets: bool
) -> dict[str, object]:
    """A cluster as the client reads it; times in milliseconds since the epoch.

    ``secrets``: with the certificate and key, which exist only while the cluster runs.
    """
    running = cluster.status is Status.RUNNING
    stopped = cluster.stopped_at
    return {
        "name": cluster.name,
        "dashboard_route": dashboard_route if running else None,
        "status": cluster.status.name,
        "start_time": int(cluster.created_at * 1000),
        "stop_time": None if stopped is None else int(stopped * 1000),
        "options": dict(cluster.options),
        "tls_cert": cluster.tls_cert if running and secrets else None,
        "tls_key": cluster.tls_key if running and secrets else None,
    }


def parse_statuses(text: str | None) -> list[Status] | None:
    """``?status=running,failed`` as statuses; None when not given. Raises Invalid."""
    if text is None:
        return None
    known = {status.name: status for status in Status}
    names = [part.strip().upper() for part in text.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        allowed = ", ".join(name.lower() for name in known)
        raise Invalid(f"{unknown[0][:40]!r} is not a cluster status; use one of {allowed}")
    return [known[name] for name in names]


def flag(text: str | None) -> bool:
    """A query flag: ``?wait``, ``?wait=1`` and ``?wait=true`` are set."""
    return text is not None and text.lower() not in ("0", "false", "no", "off")


def render(request: web.Request, cluster: Cluster) -> dict[str, object]:
    """The client's JSON of a cluster for the user who asks."""
    shared = services(request)
    user = user_of(request)
    own = cluster.user == user.name
    route = None
    if own and cluster.dashboard_address:
        route = ticket_route(
            cluster, user, shared.signer, shared.clock(), lifetimes=shared.lifetimes
        )
    return cluster_json(cluster, route, secrets=own)


def changing(handler: Handler) -> Handler:
    """As ``authenticated``, for handlers that change something: not too often for one user."""

    async def inner(request: web.Request) -> web.StreamResponse:
        now = asyncio.get_running_loop().time()
        if not request.app[CHANGES].take(user_of(request).name, now):
            raise Conflict("You change clusters too often; wait a moment and try again")
        return await handler(request)

    return authenticated(inner)


@authenticated
async def list_clusters(request: web.Request) -> web.Response:
    """GET /api/v1/clusters/ — the user's own; active ones unless ``?status=`` says otherwise."""
    statuses = parse_statuses(request.query.get("status"))
    found = services(request).control.list(user=user_of(request).name, statuses=statuses)
    return web.json_response({cluster.name: render(request, cluster) for cluster in found})


@changing
async def create_cluster(request: web.Request) -> web.Response:
    """POST /api/v1/clusters/ with {"cluster_options": {…}} → 201 {"name": …}."""
    body = await json_object(request)
    options = body.get("cluster_options")
    if options is None:
        options = {}
    if not isinstance(options, Mapping):
        raise Invalid(f"cluster_options must be an object, not {type(options).__name__}")
    shared, user = services(request), user_of(request)
    # The directory service may take its time; nothing else waits for it.
    identity = await asyncio.to_thread(lookup, shared.settings.unix_user(user.name))
    asked = (shared.settings, listener(request), options, user, identity)
    spec, shown = resolve(*asked, seen=await look(environments_asked(*asked), identity))
    cluster = await shared.control.create(
        user=user.name, owner=identity.name, spec=spec, options=shown
    )
    return web.json_response({"name": cluster.name}, status=201)


@authenticated
async def get_cluster(request: web.Request) -> web.Response:
    """GET /api/v1/clusters/<name> — ``?wait``: once it is no longer pending, at most 30 s.

    The client turns any failed start into "see logs". A waiting client gets 409 instead, whose
    text, the real reason, becomes its GatewayClusterError.
    """
    cluster = own_cluster(request, user_of(request), admins=True)
    if not flag(request.query.get("wait")):
        return web.json_response(render(request, cluster))
    waited = await _wait(services(request), cluster.name)
    doomed = waited.status is Status.STOPPING
    if waited.status.final or doomed:
        raise Conflict(why_not_running(waited))
    return web.json_response(render(request, waited))


async def _wait(shared: Services, name: str) -> Cluster:
    """The cluster once it is no longer pending, or as it is after a while or when we must leave."""
    waiting = asyncio.ensure_future(shared.control.wait(name, WAIT))
    leaving = asyncio.ensure_future(shared.leaving.wait())
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        found = waiting.result() if waiting.done() else shared.control.get(name)
    finally:
        waiting.cancel()
        leaving.cancel()
    if found is None:
        raise NotFound(f"Cluster {name} not found")
    return found


def why_not_running(cluster: Cluster) -> str:
    """One text for people about a cluster that is over or ending."""
    failed = Status.FAILED in (cluster.status, cluster.stop_as)
    if failed:
        return f"Cluster {cluster.name} failed: {cluster.reason or 'no reason is known'}"
    ending = "is being stopped" if cluster.status is Status.STOPPING else "is stopped"
    return f"Cluster {cluster.name} {ending}: {cluster.reason or 'on request'}"


@changing
async def delete_cluster(request: web.Request) -> web.Response:
    """DELETE /api/v1/clusters/<name> — again and again if you like."""
    user = user_of(request)
    cluster = own_cluster(request, user, admins=True)
    await services(request).control.stop(cluster.name, f"stopped by {user.name}")
    return web.Response(status=204)


@changing
async def scale_cluster(request: web.Request) -> web.Response:
    """POST /api/v1/clusters/<name>/scale with {"count": n} → {"ok": …, "msg": …}."""
    cluster = own_cluster(request, user_of(request))
    body = await json_object(request)
    wanted = count(body.get("count"), "Scale's count")
    _, message = await services(request).control.scale(cluster.name, wanted, group_of(body))
    return web.json_response({"ok": not message, "msg": message})


@changing
async def adapt_cluster(request: web.Request) -> web.Response:
    """POST /api/v1/clusters/<name>/adapt with {"minimum", "maximum", "active"}."""
    cluster = own_cluster(request, user_of(request))
    body = await json_object(request)
    active = body.get("active", True)
    if not isinstance(active, bool):
        raise Invalid("Adapt's active must be true or false")
    minimum = optional_count(body.get("minimum"), "Adapt's minimum")
    maximum = optional_count(body.get("maximum"), "Adapt's maximum")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise Invalid(f"Adapt's minimum ({minimum}) must not exceed its maximum ({maximum})")
    message = await services(request).control.adapt(
        cluster.name, active=active, minimum=minimum, maximum=maximum, group=group_of(body)
    )
    return web.json_response({"ok": not message, "msg": message})


def group_of(body: Mapping[str, object]) -> str | None:
    """The worker group that a body names; None means the default group."""
    group = body.get("group")
    if group is not None and not isinstance(group, str):
        raise Invalid("group must be the name of a worker group")
    return group


ROUTES = [
    web.get("/api/v1/clusters/", list_clusters),
    web.post("/api/v1/clusters/", create_cluster),
    web.get("/api/v1/clusters/{cluster_name}", get_cluster),
    web.delete("/api/v1/clusters/{cluster_name}", delete_cluster),
    web.post("/api/v1/clusters/{cluster_name}/scale", scale_cluster),
    web.post("/api/v1/clusters/{cluster_name}/adapt", adapt_cluster),
]
