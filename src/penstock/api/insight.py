"""Reading what goes on: versions, options, and a cluster's events, jobs' output and numbers."""

from __future__ import annotations

import re
from dataclasses import asdict

from aiohttp import web

import penstock
from penstock.api.services import listener, own_cluster, services
from penstock.api.session import authenticated, user_of
from penstock.control.jobs import as_json
from penstock.model.errors import Invalid
from penstock.settings.resolve import option_specs

MAX_LOG = 1 << 20
_JOB = re.compile(r"[sw](0|[1-9][0-9]{0,7})-(0|[1-9][0-9]{0,7})")


async def version(request: web.Request) -> web.Response:
    """GET /api/version → {"version": …}; needs no login, as in the peer."""
    return web.json_response({"version": penstock.__version__, "name": "penstock"})


async def health(request: web.Request) -> web.Response:
    """GET /api/health → {"status": "pass"}; for load balancers and monitoring."""
    return web.json_response({"status": "pass"})


@authenticated
async def options(request: web.Request) -> web.Response:
    """GET /api/v1/options — what this user may choose here, as the client's widgets read it."""
    specs = option_specs(services(request).settings, listener(request), user_of(request))
    return web.json_response({"cluster_options": specs})


@authenticated
async def events(request: web.Request) -> web.Response:
    """GET /api/v1/clusters/<name>/events?limit=200 — what happened, oldest first."""
    cluster = own_cluster(request, user_of(request), admins=True)
    limit = _bounded(request, "limit", default=200, maximum=1000)
    found = await services(request).control.events(cluster.name, limit)
    rows = [{"time": int(e.at * 1000), "kind": e.kind, "text": e.text} for e in found]
    return web.json_response({"events": rows, "reason": cluster.reason})


@authenticated
async def logs(request: web.Request) -> web.Response:
    """GET /api/v1/clusters/<name>/logs?job=s0-0&tail=65536 — the end of a job's output, as text."""
    cluster = own_cluster(request, user_of(request))
    job = request.query.get("job", "s0-0")
    if not _JOB.fullmatch(job):
        raise Invalid(f"job must look like 's0-0' (scheduler) or 'w3-4' (worker), not {job[:40]!r}")
    tail = _bounded(request, "tail", default=1 << 16, maximum=MAX_LOG)
    text = await services(request).control.logs(cluster.name, job, tail)
    return web.Response(text=text, content_type="text/plain", charset="utf-8")


@authenticated
async def live(request: web.Request) -> web.Response:
    """GET /api/v1/clusters/<name>/live — the scheduler's last report and each group's target."""
    cluster = own_cluster(request, user_of(request), admins=True)
    report = services(request).control.live(cluster.name)
    scaling = {
        group: {
            "count": wish.count,
            "adaptive": wish.adaptive,
            "minimum": wish.minimum,
            "maximum": wish.maximum,
        }
        for group, wish in cluster.scaling.items()
    }
    return web.json_response(
        {
            "name": cluster.name,
            "user": cluster.user,
            "status": cluster.status.name,
            "reason": cluster.reason,
            "profile": cluster.spec.profile,
            "scaling": scaling,
            "report": None if report is None else asdict(report),
        }
    )


@authenticated
async def jobs(request: web.Request) -> web.Response:
    """GET /api/v1/clusters/<name>/jobs — its jobs as the batch systems last showed them."""
    cluster = own_cluster(request, user_of(request), admins=True)
    found = services(request).control.jobs(cluster.name)
    return web.json_response({"jobs": [as_json(line) for line in found]})


def _bounded(request: web.Request, name: str, *, default: int, maximum: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= maximum:
        raise Invalid(f"{name} must be a whole number from 1 to {maximum}, not {text[:40]!r}")
    return int(text)


ROUTES = [
    web.get("/api/version", version),
    web.get("/api/health", health),
    web.get("/api/v1/options", options),
    web.get("/api/v1/clusters/{cluster_name}/events", events),
    web.get("/api/v1/clusters/{cluster_name}/logs", logs),
    web.get("/api/v1/clusters/{cluster_name}/live", live),
    web.get("/api/v1/clusters/{cluster_name}/jobs", jobs),
]
