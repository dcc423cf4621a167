"""``GET /metrics``: for Prometheus, with the password of an admin or of somebody in auth.monitors.

It is never open: it names users. Prometheus sends a password by ``basic_auth``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

import penstock
from penstock.api.services import Services, services
from penstock.api.session import authenticated, user_of
from penstock.auth import User
from penstock.control.entry import Live
from penstock.model.cluster import Cluster, Status
from penstock.model.errors import Forbidden
from penstock.settings.auth import SingleAuth
from penstock.telemetry.metrics import CONTENT_TYPE, Lag, Numbers, Seen, render

PERIOD = 1.0
"""Seconds between two samples of the event loop's lag."""

_LAG = web.AppKey("lag", Lag)


def may_watch(shared: Services, user: User) -> bool:
    """Whether this user may read the numbers of all users."""
    auth = shared.settings.auth
    return user.admin or user.name in auth.monitors or isinstance(auth, SingleAuth)


def numbers(shared: Services, lag: float) -> Numbers:
    """What is known now."""
    known = shared.control.list(statuses=list(Status))
    reports = [(each, shared.control.live(each.name)) for each in known if each.status.active]
    return Numbers(
        version=penstock.__version__,
        clusters=[(each.status.name.lower(), each.user) for each in known],
        running=[_seen(each, live) for each, live in reports if live and live.connected],
        door_restarts=shared.door_restarts(),
        lag=lag,
        measured=shared.measured(),
    )


def _seen(cluster: Cluster, live: Live) -> Seen:
    return Seen(
        cluster=cluster.name,
        user=cluster.user,
        workers=live.workers,
        clients=live.clients,
        threads=live.threads,
        worker_cpu=live.cpu / 100,
        worker_memory=live.memory,
        worker_memory_limit=live.memory_limit,
        scheduler_cpu=live.scheduler_cpu / 100,
        scheduler_memory=live.scheduler_memory,
        tasks=live.tasks,
    )


@authenticated
async def metrics(request: web.Request) -> web.Response:
    """GET /metrics — the text format of Prometheus."""
    shared = services(request)
    if not may_watch(shared, user_of(request)):
        raise Forbidden("Only admins and auth.monitors may read the metrics")
    now = numbers(shared, request.app[_LAG].worst)
    text = await asyncio.to_thread(render, now)
    return web.Response(
        body=text, headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"}
    )


async def _measuring(app: web.Application) -> AsyncIterator[None]:
    task = asyncio.create_task(_measure(app[_LAG]))
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _measure(lag: Lag) -> None:
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + PERIOD
        await asyncio.sleep(PERIOD)
        lag.note(clock() - due)


def add_routes(app: web.Application) -> None:
    """Mount the metrics, and begin to measure with the application."""
    app[_LAG] = Lag()
    app.cleanup_ctx.append(_measuring)
    app.router.add_get("/metrics", metrics)
