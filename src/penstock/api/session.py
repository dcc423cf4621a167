"""Who asks: credentials once, a signed cookie afterwards.

The cookie lives an hour and only under ``/api``: dashboards, which are pages of the users' own
making, never get it. It is SameSite=Strict, and changes need an own origin besides
(``penstock.dashboards.origin``).
"""

from __future__ import annotations

from aiohttp import web

from penstock.api.errors import Handler
from penstock.api.services import services
from penstock.auth import User
from penstock.auth.base import PEER

COOKIE = "penstock-session"
LIFETIME = 3600.0
_PURPOSE = "session"
_USER = web.RequestKey("user", User)


def user_of(request: web.Request) -> User:
    """The authenticated user of a request that went through ``authenticated``."""
    return request[_USER]


async def authenticate(request: web.Request) -> User:
    """The user of this request, by cookie or credentials; raises Unauthenticated."""
    known = _from_cookie(request)
    if known is not None:
        return known
    return await services(request).authenticator.authenticate(_headers(request))


def authenticated(handler: Handler) -> Handler:
    """Let a handler run for authenticated users only; ``user_of(request)`` names them."""

    async def inner(request: web.Request) -> web.StreamResponse:
        known = _from_cookie(request)
        user = known or await services(request).authenticator.authenticate(_headers(request))
        request[_USER] = user
        response = await handler(request)
        if known is None and not response.prepared:
            response.headers.update(user.reply)
            _remember(request, response, user)
        return response

    return inner


def _headers(request: web.Request) -> dict[str, str]:
    headers = {name.lower(): value for name, value in request.headers.items()}
    # Authenticators slow down guessing by address; no proxy header is believed.
    headers[PEER] = request.remote or ""
    return headers


def _from_cookie(request: web.Request) -> User | None:
    text = request.cookies.get(COOKIE)
    if not text:
        return None
    shared = services(request)
    payload = shared.signer.verify(_PURPOSE, text, shared.clock())
    if payload is None:
        return None
    groups = payload.get("groups")
    return User(
        name=str(payload.get("name")),
        groups=frozenset(map(str, groups)) if isinstance(groups, list) else frozenset(),
        admin=payload.get("admin") is True,
    )


def _remember(request: web.Request, response: web.StreamResponse, user: User) -> None:
    shared = services(request)
    payload = {"name": user.name, "groups": sorted(user.groups), "admin": user.admin}
    token = shared.signer.sign(_PURPOSE, payload, shared.clock() + LIFETIME)
    response.set_cookie(
        COOKIE,
        token,
        path="/api",
        max_age=int(LIFETIME),
        httponly=True,
        secure=request.secure,
        samesite="Strict",
    )
