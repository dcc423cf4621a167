"""The dashboards' routes: find out who asks for which cluster, decide, and let the parts act."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from aiohttp import web

from penstock.auth import Signer, User
from penstock.dashboards import access, headers, pages, paths
from penstock.dashboards.grants import Grants, Kind, Lifetimes, Viewer
from penstock.dashboards.origin import PREFIX, foreign_origin
from penstock.dashboards.proxy import Bounds, Target, forward, open_session
from penstock.dashboards.sockets import Sockets
from penstock.model.cluster import Cluster, Status
from penstock.model.errors import UserError

COOKIE = "penstock-dashboard"
MAX_FORM = 16 * 1024

Authenticate = Callable[[web.Request], Awaitable[User | None]]


def add_routes(
    app: web.Application,
    *,
    get_cluster: Callable[[str], Cluster | None],
    signer: Signer,
    authenticate: Authenticate,
    clock: Callable[[], float] = time.time,
    lifetimes: Lifetimes = Lifetimes(),  # noqa: B008 (frozen)
    bounds: Bounds = Bounds(),  # noqa: B008 (frozen)
    frame_ancestors: Sequence[str] = ("'self'",),
) -> None:
    """Mount the dashboards of all clusters below ``/clusters/``.

    ``authenticate`` gets a request with ``Authorization`` and returns its user, or None, or raises
    ``UserError``, whose text the login form shows; limits on guessing are its own. ``clock`` in
    seconds since the epoch. ``frame_ancestors``: CSP sources that may show pages in frames, such
    as ``https://jupyter.example.org``. Raises ValueError for text that is not one such source.
    """
    for source in frame_ancestors:
        if not headers.is_source(source):
            raise ValueError(f"{source!r} is not one CSP source, such as https://hub.example.org")
    dashboards = Dashboards(
        get_cluster,
        Grants(signer, lifetimes),
        authenticate,
        clock,
        bounds,
        tuple(frame_ancestors) or ("'none'",),
    )
    app.cleanup_ctx.append(dashboards.running)
    app.on_shutdown.append(dashboards.shutdown)
    app.router.add_route("*", PREFIX + "{rest:.*}", dashboards.handle)


@dataclass(frozen=True, slots=True)
class _Running:
    """What exists while the application runs."""

    forward: Callable[[web.Request, Target], Awaitable[web.StreamResponse]]
    sockets: Sockets


class Dashboards:
    """The handler of everything below ``/clusters/``."""

    def __init__(
        self,
        get_cluster: Callable[[str], Cluster | None],
        grants: Grants,
        authenticate: Authenticate,
        clock: Callable[[], float],
        bounds: Bounds,
        frame_ancestors: Sequence[str],
    ) -> None:
        self._get_cluster = get_cluster
        self._grants = grants
        self._authenticate = authenticate
        self._clock = clock
        self._bounds = bounds
        self._ancestors = frame_ancestors
        self._running: _Running | None = None

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Keep the HTTP client for as long as the application runs."""
        async with open_session(self._bounds) as session:

            async def send(request: web.Request, target: Target) -> web.StreamResponse:
                return await forward(session, request, target, self._bounds)

            self._running = _Running(send, Sockets(session, self._bounds))
            yield
            self._running = None

    async def shutdown(self, _: web.Application) -> None:
        """End the WebSockets, which would otherwise hold the server up."""
        if self._running is not None:
            await self._running.sockets.aclose()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request below ``/clusters/``."""
        asked = paths.parse(request.raw_path)
        if asked is None:
            return pages.not_found()
        if request.method == "POST" and asked.token == pages.LOGIN:
            return await self._login(request, asked.name)
        if request.method not in ("GET", "HEAD"):
            return pages.wrong_method()
        try:
            shown = await self._shown(request, asked)
        except UserError as error:
            return pages.login_form(asked.name, asked.page, str(error), status=error.status)
        context = access.Context.of(request.headers)
        verdict = access.decide(context, shown)
        if verdict.step is access.Step.LOGIN:
            return self._ask(asked, context)
        if verdict.step is access.Step.REFUSE or verdict.viewer is None:
            return pages.refused()
        cluster = self._get_cluster(asked.name)
        if cluster is None or not verdict.viewer.may_see(cluster):
            return pages.not_found()
        if verdict.step is access.Step.ENTER:
            known = shown.session is not None and shown.ticket is None
            return self._enter(request, asked, verdict.viewer, remember=not known)
        return await self._serve(request, asked, cluster)

    async def _shown(self, request: web.Request, asked: paths.Asked) -> access.Shown:
        """Read every grant of a request; a password only when nothing else is there."""
        now = self._clock()
        read = self._grants.read
        ticket = capability = None
        if asked.token is not None:
            ticket = read(Kind.TICKET, asked.token, asked.name, now)
            capability = read(Kind.CAPABILITY, asked.token, asked.name, now)
        session = read(Kind.SESSION, request.cookies.get(COOKIE, ""), asked.name, now)
        password = None
        if session is None and "Authorization" in request.headers:
            user = await self._authenticate(request)
            password = Viewer.of(user) if user is not None else None
        return access.Shown(asked.token is not None, ticket, capability, session, password)

    def _ask(self, asked: paths.Asked, context: access.Context) -> web.Response:
        if context.framed:
            return pages.expired_pane(self._ancestors)
        response = pages.login_form(asked.name, asked.page)
        if not context.page:
            # For programs: browsers would put up their own prompt, and remember the password.
            response.headers["WWW-Authenticate"] = 'Basic realm="Penstock"'
        return response

    def _enter(
        self, request: web.Request, asked: paths.Asked, viewer: Viewer, *, remember: bool
    ) -> web.Response:
        """Lead to the page under a fresh capability; ``remember``: by a cookie for its path, too.

        A session is never prolonged by itself, so that a stolen cookie ends, too.
        """
        now = self._clock()
        capability = self._grants.make(Kind.CAPABILITY, asked.name, viewer, now)
        response = web.Response(
            status=303,
            headers={
                "Location": asked.under(capability),
                "Cache-Control": "no-store",
                "Referrer-Policy": "no-referrer",
                # Cuts the tie to whichever page opened the link, also through a redirect.
                "Cross-Origin-Opener-Policy": "same-origin",
            },
        )
        if not remember:
            return response
        response.set_cookie(
            COOKIE,
            self._grants.make(Kind.SESSION, asked.name, viewer, now),
            path=f"{PREFIX}{asked.name}/",
            max_age=int(self._grants.lifetimes.session),
            httponly=True,
            secure=request.secure,
            samesite="Lax",
        )
        return response

    async def _serve(
        self, request: web.Request, asked: paths.Asked, cluster: Cluster
    ) -> web.StreamResponse:
        base = paths.upstream(cluster.dashboard_address)
        if cluster.status is not Status.RUNNING or base is None or self._running is None:
            return pages.no_dashboard(cluster, self._ancestors)
        target = Target(base, asked, self._ancestors, self._grants.lifetimes.capability)
        if access.Context.of(request.headers).socket:
            return await self._running.sockets.relay(request, target)
        return await self._running.forward(request, target)

    async def _login(self, request: web.Request, name: str) -> web.StreamResponse:
        """Check the form's password as if it had come by ``Authorization``, then enter."""
        if foreign_origin(request):
            return pages.refused()
        form = parse_qs((await _body(request)).decode("utf-8", "replace"))
        user_name, password, page = (form.get(key, [""])[0] for key in ("user", "password", "page"))
        page = page if paths.valid_page(page) else paths.FIRST_PAGE
        if not user_name or ":" in user_name:
            return pages.login_form(name, page, "Please enter your user name and password.")
        pair = base64.b64encode(f"{user_name}:{password}".encode()).decode()
        shown = {**request.headers, "Authorization": f"Basic {pair}"}
        shown.pop("Cookie", None)
        try:
            user = await self._authenticate(request.clone(headers=shown))
        except UserError as error:
            return pages.login_form(name, page, str(error), status=error.status)
        if user is None:
            return pages.login_form(name, page, "User name or password is wrong.")
        viewer, cluster = Viewer.of(user), self._get_cluster(name)
        if cluster is None or not viewer.may_see(cluster):
            return pages.not_found()
        return self._enter(request, paths.Asked(name, None, page), viewer, remember=True)


async def _body(request: web.Request) -> bytes:
    """The form's bytes, at most ``MAX_FORM``; the rest of a larger one is not read."""
    # Not ``request.post()``: a request whose body was read that way cannot be cloned.
    parts = bytearray()
    while len(parts) <= MAX_FORM:
        chunk = await request.content.read(MAX_FORM)
        if not chunk:
            return bytes(parts)
        parts += chunk
    return b""
