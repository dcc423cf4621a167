"""The notebook's end of backends of type ``notebook``: tickets, the WebSocket, and who stays away.

The messages stand in ``penstock.backends.relay.wire``. The cluster's *user* opens this channel, by
a ticket that the server gave to this user for this cluster, never the cluster's own token, which
every job of the cluster has. What comes over it counts for this cluster's jobs alone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from penstock.api.channel import SocketLink
from penstock.api.rate import Bucket
from penstock.api.services import Services, own_cluster, services
from penstock.api.session import authenticate, authenticated, proof_of, user_of
from penstock.auth import User
from penstock.backends.relay.backend import RelayBackend
from penstock.backends.relay.holder import Holder
from penstock.backends.relay.wire import MAX_FRAME, parse_hello
from penstock.control import Control
from penstock.control.timeouts import span
from penstock.model.cluster import Cluster, Status
from penstock.model.errors import Conflict, Invalid, NotFound, PenstockError, UserError

TICKET_LIFETIME = 7 * 86400.0
"""Seconds; every connection brings a new one."""

HELLO_WITHIN = 20.0
HEARTBEAT = 30.0
_PURPOSE = "workers"
_WATCH = 1.0

log = structlog.get_logger("penstock.notebook")


def relay_of(shared: Services, cluster: Cluster) -> RelayBackend:
    """The backend through which a notebook submits a cluster's workers. Raises Conflict."""
    for group in cluster.spec.workers.values():
        backend = shared.control.backends.get(group.backend)
        if isinstance(backend, RelayBackend):
            return backend
    what = "are started by the gateway itself" if cluster.spec.workers else "come from elsewhere"
    raise Conflict(
        f"The workers of profile {cluster.spec.profile} {what}, so no notebook can submit them"
    )


@authenticated
async def ticket(request: web.Request) -> web.Response:
    """POST /api/v1/clusters/<name>/workers/ticket → {"ticket": …}, to open the channel with."""
    user = user_of(request)
    cluster = own_cluster(request, user)
    relay = relay_of(services(request), cluster)
    text = await _sign(services(request), cluster, user)
    return web.json_response({"ticket": text, "gateway": relay.gateway})


async def channel(request: web.Request) -> web.WebSocketResponse:
    """GET /api/v1/clusters/<name>/workers/channel — a notebook carries out what the server asks."""
    user = await _who(request)
    cluster = own_cluster(request, user)
    if cluster.status.final:
        raise web.HTTPGone(text=f"Cluster {cluster.name} is over: {cluster.reason or 'stopped'}")
    relay = relay_of(services(request), cluster)
    socket = web.WebSocketResponse(max_msg_size=MAX_FRAME, heartbeat=HEARTBEAT)
    await socket.prepare(request)
    link = SocketLink(socket)
    pump = asyncio.create_task(link.pump())
    try:
        await _converse(request, socket, link, cluster, relay, user)
    except UserError as error:
        log.warning("notebook refused", cluster=cluster.name, user=user.name, error=str(error))
        await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=str(error).encode()[:120])
    finally:
        pump.cancel()
    return socket


async def _converse(
    request: web.Request,
    socket: web.WebSocketResponse,
    link: SocketLink,
    cluster: Cluster,
    relay: RelayBackend,
    user: User,
) -> None:
    """Hello, welcome, and answers until the notebook goes."""
    shared, manners = services(request), Manners()
    volume = Bucket.full(MAX_FRAME / 8, 4 * MAX_FRAME, _now())
    try:
        first = await asyncio.wait_for(socket.receive(), HELLO_WITHIN)
    except asyncio.TimeoutError:
        raise Invalid(f"The notebook said no hello within {HELLO_WITHIN:.0f} s") from None
    holder = Holder(parse_hello(_frame(first, volume)), link.send)
    link.send(
        {
            "op": "welcome",
            "gateway": relay.gateway,
            "cluster": cluster.name,
            "ticket": await _sign(shared, cluster, user),
        }
    )
    relay.attach(cluster.name, cluster.owner, holder)
    try:
        async for message in socket:
            manners.hear(_frame(message, volume), holder, relay)
            if manners.stops:
                manners.stops, alone = False, not relay.others(cluster.name, holder)
                link.send({"op": "stopping", "alone": alone})
                if alone:
                    await shared.control.stop(cluster.name, f"Its notebook ended: {holder.who}.")
            if manners.left:
                await socket.close()
    finally:
        relay.detach(cluster.name, holder, keep=manners.keep, cleared=manners.cleared)


@dataclass(slots=True)
class Manners:
    """What a notebook says of itself, and how it goes; see ``leave`` in the wire module."""

    stops: bool = False
    left: bool = False
    keep: bool = False
    cleared: bool = False
    hints: Bucket = field(default_factory=lambda: Bucket.full(5, 50, _now()))

    def hear(self, said: Mapping[str, object], holder: Holder, relay: RelayBackend) -> None:
        """One frame; what newer notebooks say besides is let pass."""
        op = said.get("op")
        if op in ("done", "failed"):
            holder.answered(said)
        elif op == "changed":
            if self.hints.take(_now()):
                relay.changed()
        elif op == "stop":
            self.stops = True
        elif op == "leave":
            self.left = True
            self.keep, self.cleared = said.get("keep") is True, said.get("cleared") is True


async def watch_notebooks(control: Control) -> None:
    """For ever: stop clusters whose notebook stays away, and let go of those that are over."""
    relays = [b for b in control.backends.values() if isinstance(b, RelayBackend)]
    while relays:
        await asyncio.sleep(_WATCH)
        for relay in relays:
            for name in relay.clusters:
                try:
                    await _watch(control, relay, name)
                except PenstockError as error:
                    log.warning("not stopped yet", cluster=name, error=str(error))


async def _watch(control: Control, relay: RelayBackend, name: str) -> None:
    cluster = control.get(name)
    if cluster is None or cluster.status.final:
        relay.over(name, cluster.reason if cluster else "the gateway does not know it")
    elif cluster.status is Status.STOPPING:
        relay.ending(name)
    elif relay.away(name) > relay.grace:
        away = span(relay.grace)
        reason = f"Its notebook, which submits its workers, has been away for {away}."
        await control.stop(name, reason)


async def _who(request: web.Request) -> User:
    """The user who opens the channel: by ticket, else as for any request."""
    kind, _, text = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "token":
        return await authenticate(request)
    shared = services(request)
    said = shared.signer.verify(_PURPOSE, text.strip(), shared.clock())
    if said is None or said.get("cluster") != request.match_info["cluster_name"]:
        raise NotFound("No such cluster, or not a ticket for it")
    name = str(said.get("user"))
    if said.get("proof") != await proof_of(shared, name):
        raise NotFound("The login of this ticket is void by now; connect to the cluster again")
    return User(name=name)


async def _sign(shared: Services, cluster: Cluster, user: User) -> str:
    proof = await proof_of(shared, user.name)
    payload = {"cluster": cluster.name, "user": user.name, "proof": proof}
    return shared.signer.sign(_PURPOSE, payload, shared.clock() + TICKET_LIFETIME)


def _frame(message: WSMessage, volume: Bucket) -> dict[str, object]:
    """The JSON object of one frame. Raises Invalid for anything else, and for too much of it."""
    if message.type is not WSMsgType.TEXT:
        raise Invalid("The notebook's channel takes text frames only")
    if not volume.take(_now(), len(message.data)):
        raise Invalid("The notebook says too much; slow down")
    try:
        value = json.loads(message.data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Invalid("A frame of the notebook must be a JSON object")
    return value


def _now() -> float:
    return asyncio.get_running_loop().time()


ROUTES = [
    web.post("/api/v1/clusters/{cluster_name}/workers/ticket", ticket),
    web.get("/api/v1/clusters/{cluster_name}/workers/channel", channel),
]
