"""A gateway's web side in a thread: the real dashboards, beside an API that notes what reaches it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web

from penstock.auth import Signer, User
from penstock.dashboards import add_routes, refuse_foreign_origins, ticket_route
from penstock.model.cluster import Cluster, ClusterSpec, GroupSpec, Status
from penstock.model.errors import Unauthenticated
from penstock.model.ids import new_cluster_name

T = TypeVar("T")

PASSWORDS = {"alice": "wonderland", "bob": "builder", "mallory": "mischief"}
ADMINS = frozenset({"alice"})
API_COOKIE = "penstock-session"


def make_cluster(user: str, dashboard: str, status: Status = Status.RUNNING) -> Cluster:
    """A cluster as the control would hold it."""
    return Cluster(
        name=new_cluster_name(),
        user=user,
        owner=user,
        spec=ClusterSpec("test", GroupSpec("fake", "python3")),
        options={},
        token="",
        tls_cert="",
        tls_key="",
        created_at=0.0,
        status=status,
        dashboard_address=dashboard,
    )


class LoopThread:
    """An event loop in a thread, so that a blocking browser and its servers run side by side."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def serve(self, make_app: Callable[[], web.Application]) -> tuple[int, Callable[[], None]]:
        """Serve an application on a free port of 127.0.0.1; returns the port and how to stop it."""

        async def start() -> tuple[web.AppRunner, int]:
            runner = web.AppRunner(make_app(), shutdown_timeout=1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            return runner, runner.addresses[0][1]

        runner, port = self.run(start())
        return port, lambda: self.run(runner.cleanup())

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


def basic(user: str) -> str:
    """The value of ``Authorization`` for one of the users."""
    return "Basic " + base64.b64encode(f"{user}:{PASSWORDS[user]}".encode()).decode()


async def authenticate(request: web.Request) -> User:
    """Password or the API's cookie, as the real one does it."""
    header = request.headers.get("Authorization", "")
    for name in PASSWORDS:
        if header == basic(name) or request.cookies.get(API_COOKIE) == f"session-of-{name}":
            return User(name, frozenset(), admin=name in ADMINS)
    raise Unauthenticated("User name or password is wrong.")


@dataclass
class Gateway:
    """The gateway under test. ``ahead`` moves its clock; ``touched`` lists what the API let pass.

    Browsers treat ``http://127.0.0.1`` like HTTPS; ``host`` may be ``gateway.example.org``, which
    the browser rig leads here, too, for plain HTTP as on a network.
    """

    loop: LoopThread
    signer: Signer = field(default_factory=lambda: Signer(b"a secret of 32 bytes, for tests!"))
    clusters: dict[str, Cluster] = field(default_factory=dict)
    touched: list[str] = field(default_factory=list)
    ahead: float = 0.0
    host: str = "127.0.0.1"
    port: int = 0
    credentials: str = f"alice:{PASSWORDS['alice']}"

    def now(self) -> float:
        return time.time() + self.ahead

    @property
    def base(self) -> str:
        return f"http://{self.host}:{self.port}"

    def add(self, user: str, dashboard: str, status: Status = Status.RUNNING) -> Cluster:
        cluster = make_cluster(user, dashboard, status)
        self.clusters[cluster.name] = cluster
        return cluster

    def link(self, cluster: Cluster, user: str) -> str:
        """What the API hands out as the dashboard's link."""
        viewer = User(user, frozenset(), admin=user in ADMINS)
        return self.base + ticket_route(cluster, viewer, self.signer, self.now())

    def app(self, frame_ancestors: tuple[str, ...] = ("'self'",)) -> web.Application:
        app = web.Application(middlewares=[refuse_foreign_origins])
        app.router.add_route("*", "/api/v1/clusters/{rest:.*}", self._api)
        add_routes(
            app,
            get_cluster=self.clusters.get,
            signer=self.signer,
            authenticate=authenticate,
            clock=self.now,
            frame_ancestors=frame_ancestors,
        )
        return app

    async def _api(self, request: web.Request) -> web.StreamResponse:
        """An API that believes cookies and remembered passwords, like the real one."""
        try:
            user = await authenticate(request)
        except Unauthenticated as error:
            challenge = {"WWW-Authenticate": 'Basic realm="Penstock"'}
            return web.json_response({"error": str(error)}, status=401, headers=challenge)
        what = f"{request.method} {request.path}"
        if request.headers.get("Upgrade"):
            what = f"CHANNEL {request.path}"
        self.touched.append(what)
        response = web.json_response({"user": user.name, "clusters": list(self.clusters)})
        response.set_cookie(
            API_COOKIE, f"session-of-{user.name}", path="/api", httponly=True, samesite="Strict"
        )
        return response


@contextlib.contextmanager
def running_gateway(
    loop: LoopThread, kind: type[Gateway] | None = None, **options: Any
) -> Iterator[Gateway]:
    """A gateway that serves until the block ends; ``kind``: another class than ``Gateway``."""
    gateway = (kind or Gateway)(loop)
    gateway.port, stop = loop.serve(lambda: gateway.app(**options))
    try:
        yield gateway
    finally:
        stop()


@contextlib.contextmanager
def running_site(loop: LoopThread, routes: Mapping[str, Any]) -> Iterator[int]:
    """Any other web site (GET path → handler) on a port of its own."""

    def make_app() -> web.Application:
        app = web.Application()
        app.add_routes([web.route("*", path, handler) for path, handler in routes.items()])
        return app

    port, stop = loop.serve(make_app)
    try:
        yield port
    finally:
        stop()
