"""The agents' side of the API: the scheduler's WebSocket and the exit reports of all jobs.

See ``penstock.model.wire`` for the messages. A cluster's token opens this cluster's channel and
nothing else; whoever holds it is still a stranger: sizes and rates are bounded, addresses are
vetted, and nothing that is said counts for another cluster, a quota or an identity.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import Mapping

import structlog
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from penstock.api.announce import Speaker, vet
from penstock.api.body import json_object
from penstock.api.rate import Allowance
from penstock.api.services import is_cluster_name, services
from penstock.api.sockets import LISTENERS
from penstock.auth import lookup
from penstock.model.cluster import Cluster
from penstock.model.errors import Conflict, Invalid, NotFound, UserError
from penstock.model.wire import MAX_FRAME

HELLO_WITHIN = 10.0
"""Seconds that a fresh channel has for its hello."""
HEARTBEAT = 30.0
MAX_EXIT = 64 * 1024
_OUTBOX = 1000
_ALLOWANCES = web.AppKey("allowances", dict[str, Allowance])

log = structlog.get_logger("penstock.channel")


class SocketLink:
    """One live channel, as control sees it: sending never blocks and may be lost."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._outbox: asyncio.Queue[str | None] = asyncio.Queue(_OUTBOX)

    def send(self, message: Mapping[str, object]) -> None:
        """Queue a message; a peer that reads nothing for a thousand messages is cut off."""
        try:
            self._outbox.put_nowait(json.dumps(message))
        except asyncio.QueueFull:
            self.close()

    def close(self) -> None:
        """End the channel soon; what is queued may be lost."""
        with contextlib.suppress(asyncio.QueueFull):
            self._outbox.put_nowait(None)
            return
        self._outbox.get_nowait()
        self._outbox.put_nowait(None)

    async def pump(self) -> None:
        """Write what is queued until the channel ends."""
        while (text := await self._outbox.get()) is not None:
            await self._socket.send_str(text)
        await self._socket.close(code=WSCloseCode.GOING_AWAY)


def token_cluster(request: web.Request) -> Cluster:
    """The cluster whose own token this request carries. Raises NotFound for anything else."""
    name = request.match_info["cluster_name"]
    cluster = services(request).control.get(name) if is_cluster_name(name) else None
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    expected = cluster.token if cluster is not None else "-"
    right = hmac.compare_digest(token.strip().encode(), expected.encode())
    if cluster is None or kind.lower() != "token" or not right:
        raise NotFound("No such cluster, or not its token")
    return cluster


async def channel(request: web.Request) -> web.WebSocketResponse:
    """GET /api/v1/clusters/<name>/channel — a scheduler's agent and the server talk."""
    cluster = token_cluster(request)
    if cluster.status.final:
        # The agent understands this and ends; any other refusal it takes for a passing trouble.
        raise web.HTTPGone(text=f"Cluster {cluster.name} is over: {cluster.reason or 'stopped'}")
    if not _allowance(request, cluster).channels.take(_now()):
        raise Conflict("The channel is opened too often; slow down")
    socket = web.WebSocketResponse(max_msg_size=MAX_FRAME, heartbeat=HEARTBEAT)
    await socket.prepare(request)
    link = SocketLink(socket)
    pump = asyncio.create_task(link.pump())
    try:
        await _converse(request, cluster, socket, link)
    except UserError as error:
        log.warning("channel refused", cluster=cluster.name, user=cluster.user, error=str(error))
        await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=str(error).encode()[:120])
    finally:
        pump.cancel()
        await services(request).control.disconnected(cluster.name, link)
    return socket


async def _converse(
    request: web.Request, cluster: Cluster, socket: web.WebSocketResponse, link: SocketLink
) -> None:
    control = services(request).control
    allowance = _allowance(request, cluster)
    try:
        hello = await asyncio.wait_for(socket.receive(), HELLO_WITHIN)
    except asyncio.TimeoutError:
        raise Invalid(f"The channel had no hello within {HELLO_WITHIN:.0f} s") from None
    first = _frame(hello, allowance)
    if first.get("op") != "hello":
        raise Invalid("The channel must begin with a hello")
    link.send(await control.connected(cluster.name, await _vetted(request, cluster, first), link))
    async for message in socket:
        await control.message(cluster.name, link, _frame(message, allowance))


async def _vetted(
    request: web.Request, cluster: Cluster, hello: Mapping[str, object]
) -> dict[str, object]:
    """The hello with both addresses checked and made plain. Raises Invalid."""
    speaker = _speaker(request)
    uid = (await asyncio.to_thread(lookup, cluster.owner)).uid if speaker.same_host else -1

    def listens_as_owner(host: str, port: int) -> bool:
        return LISTENERS.uids(host, port) == {uid}

    def check(key: str, scheme: str) -> str:
        host, port = vet(
            hello.get(key),
            scheme,
            speaker,
            networks=cluster.spec.limits.networks,
            own_ports=services(request).own_ports,
            listens_as_owner=listens_as_owner,
        )
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    scheduler = await asyncio.to_thread(check, "scheduler_address", "tls")
    dashboard = ""
    if hello.get("dashboard_address"):
        dashboard = await asyncio.to_thread(check, "dashboard_address", "http")
    return {**hello, "scheduler_address": scheduler, "dashboard_address": dashboard}


def _speaker(request: web.Request) -> Speaker:
    transport = request.transport
    peer = transport.get_extra_info("peername") if transport is not None else None
    local = transport.get_extra_info("sockname") if transport is not None else None
    if not isinstance(peer, tuple) or not isinstance(local, tuple):
        raise Invalid("The channel must come over TCP")
    return Speaker(peer=str(peer[0]), local=str(local[0]))


def _frame(message: WSMessage, allowance: Allowance) -> dict[str, object]:
    """The JSON object of one frame. Raises Invalid for anything else, and for too much of it."""
    if message.type is not WSMsgType.TEXT:
        raise Invalid("The channel takes text frames only")
    now = _now()
    if not allowance.frames.take(now) or not allowance.volume.take(now, len(message.data)):
        raise Invalid("The channel says too much; slow down")
    try:
        value = json.loads(message.data, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Invalid("A frame of the channel must be a JSON object")
    return value


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON value")


def _now() -> float:
    return asyncio.get_running_loop().time()


def _allowance(request: web.Request, cluster: Cluster) -> Allowance:
    """What this cluster may still say; kept for as long as control knows the cluster."""
    allowances = request.app[_ALLOWANCES]
    found = allowances.get(cluster.name)
    if found is None:
        known = services(request).control.get
        for name in [name for name in allowances if known(name) is None]:
            del allowances[name]
        found = allowances[cluster.name] = Allowance.full(_now())
    return found


async def exits(request: web.Request) -> web.Response:
    """POST /api/v1/clusters/<name>/exits — a job's agent tells how its process died."""
    cluster = token_cluster(request)
    if not _allowance(request, cluster).exits.take(_now()):
        raise Conflict("Too many exit reports; slow down")
    if (request.content_length or MAX_EXIT + 1) > MAX_EXIT:
        raise Invalid(f"An exit report must tell its length and hold at most {MAX_EXIT} bytes")
    await services(request).control.exited(cluster.name, await json_object(request))
    return web.json_response({})


def add_routes(app: web.Application) -> None:
    """Mount the channel and the exit reports."""
    app[_ALLOWANCES] = {}
    app.router.add_get("/api/v1/clusters/{cluster_name}/channel", channel)
    app.router.add_post("/api/v1/clusters/{cluster_name}/exits", exits)
