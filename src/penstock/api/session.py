"""Who asks: credentials once, a signed cookie afterwards.

The cookie lives an hour and only under ``/api``: dashboards, which are pages of the users' own
making, never get it. It is SameSite=Strict, and changes need an own origin besides
(``penstock.dashboards.origin``). A changed password, and changed settings about people, end it.
"""

from __future__ import annotations

from aiohttp import web

from penstock.api.errors import Handler
from penstock.api.services import Services, services
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
    return (await _authenticate(request))[0]


async def _authenticate(request: web.Request) -> tuple[User, bool]:
    """(the user, whether a cookie proved it). Raises Unauthenticated."""
    known = await _from_cookie(request)
    if known is not None:
        return known, True
    return await services(request).authenticator.authenticate(_headers(request)), False


def authenticated(handler: Handler) -> Handler:
    """Let a handler run for authenticated users only; ``user_of(request)`` names them."""

    async def inner(request: web.Request) -> web.StreamResponse:
        user, by_cookie = await _authenticate(request)
        request[_USER] = user
        response = await handler(request)
        if not by_cookie and not response.prepared:
            response.headers.update(user.reply)
            await _remember(request, response, user)
        return response

    return inner


def _headers(request: web.Request) -> dict[str, str]:
    headers = {name.lower(): value for name, value in request.headers.items()}
    # Authenticators slow down guessing by address; no proxy header is believed.
    headers[PEER] = request.remote or ""
    return headers


async def _from_cookie(request: web.Request) -> User | None:
    text = request.cookies.get(COOKIE)
    if not text:
        return None
    shared = services(request)
    payload = shared.signer.verify(_PURPOSE, text, shared.clock())
    if payload is None:
        return None
    name, groups = str(payload.get("name")), payload.get("groups")
    if payload.get("proof") != await proof_of(shared, name):
        return None
    return User(
        name=name,
        groups=frozenset(map(str, groups)) if isinstance(groups, list) else frozenset(),
        admin=payload.get("admin") is True,
    )


async def proof_of(shared: Services, name: str) -> str:
    """What a login rests on, so that it ends when that changes; see ``Authenticator``."""
    ask = getattr(shared.authenticator, "proof", None)
    return shared.signer.fingerprint(_PURPOSE, f"{name}\0{await ask(name) if ask else ''}")


async def _remember(request: web.Request, response: web.StreamResponse, user: User) -> None:
    shared = services(request)
    payload = {
        "name": user.name,
        "groups": sorted(user.groups),
        "admin": user.admin,
        "proof": await proof_of(shared, user.name),
    }
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
