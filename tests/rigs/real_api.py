"""The gateway's real web side (API, channel, dashboards) over a control that only remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from penstock.api.app import make_app
from penstock.api.services import Services
from penstock.auth import User
from penstock.model.cluster import Cluster, Status
from penstock.model.errors import Unauthenticated
from penstock.settings import embedded
from rigs.dashboards import ADMINS, PASSWORDS, Gateway, basic


class Passwords:
    """The users of the tests, with passwords in the clear."""

    challenge = 'Basic realm="Penstock"'

    async def authenticate(self, headers: Mapping[str, str]) -> User:
        for name in PASSWORDS:
            if headers.get("authorization") == basic(name):
                return User(name, admin=name in ADMINS)
        raise Unauthenticated("User name or password is wrong.")


class Remembering:
    """What the API asks of control; clusters stay as they are."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def get(self, name: str) -> Cluster | None:
        return self._gateway.clusters.get(name)

    def list(
        self, *, user: str | None = None, statuses: Collection[Status] | None = None
    ) -> list[Cluster]:
        return [each for each in self._gateway.clusters.values() if each.user == user]

    async def scale(self, name: str, *_: Any) -> tuple[int, None]:
        return 0, None

    async def stop(self, name: str, reason: str) -> None:
        pass


@dataclass
class RealGateway(Gateway):
    """``Gateway`` with the real application; ``touched`` lists all that came as far as a handler."""

    def app(self, **_: Any) -> web.Application:
        app = make_app(
            Services(
                settings=embedded(),
                control=Remembering(self),  # type: ignore[arg-type]
                authenticator=Passwords(),
                signer=self.signer,
                clock=self.now,
                leaving=asyncio.Event(),
            )
        )
        app.middlewares.append(self._note)
        return app

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path.startswith("/api/"):
            socket = "Upgrade" in request.headers
            self.touched.append(f"{'CHANNEL' if socket else request.method} {request.path}")
        response: web.StreamResponse = await handler(request)
        return response
