"""The WebSocket to the server: kept while the cluster lives, opened again whenever it is lost."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp

from penstock.backends.relay.wire import MAX_FRAME, PROTOCOL
from penstock.notebook.order import Order

Message = Mapping[str, object]

REFUSED = 600.0
"""Seconds of nothing but "unknown cluster" or "not yours", after which it is believed."""

HEARTBEAT = 20.0
MOST_PAUSE = 5.0

ANSWER = 3.0
"""Seconds that the server has to say whether others are there."""


class Line:
    """``answer`` carries out a request. ``tell`` hears of what concerns the notebook: ``connected``,
    ``standby``, ``active``, ``took``, ``refused``, each with a text."""

    def __init__(
        self,
        order: Order,
        place: str,
        answer: Callable[[Message], Awaitable[dict[str, object]]],
        tell: Callable[[str, str], None],
    ) -> None:
        self._order = order
        self._ticket = order.ticket
        self._hello = {"op": "hello", "protocol": PROTOCOL, "place": place, "who": order.who}
        self._answer = answer
        self._tell = tell
        self._socket: Any = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._refused_since: float | None = None
        self._stopping: asyncio.Future[bool] | None = None

    async def run(self) -> str:
        """Serve until the cluster is over; the reason."""
        pause = 0.2
        async with aiohttp.ClientSession() as session:
            while True:
                began = _now()
                try:
                    over = await self._serve(session)
                except aiohttp.WSServerHandshakeError as error:
                    over = self._refused(error)
                except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
                    over = ""
                if over:
                    return over
                pause = 0.2 if _now() - began > 10.0 else min(MOST_PAUSE, pause * 1.7)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)

    async def say(self, message: Message) -> bool:
        """Send something; False when there is nobody to hear it now."""
        socket = self._socket
        if socket is None or socket.closed:
            return False
        try:
            await socket.send_str(json.dumps(message))
        except (aiohttp.ClientError, OSError, RuntimeError):
            return False
        return True

    async def stop(self) -> bool:
        """Say that this notebook ends; whether its jobs shall, too. They stay where another notebook
        is there for the cluster; they go where nobody answers."""
        self._stopping = asyncio.get_running_loop().create_future()
        if not await self.say({"op": "stop"}):
            return True
        await asyncio.wait({self._stopping}, timeout=ANSWER)
        return self._stopping.result() if self._stopping.done() else True

    async def leave(self, *, keep: bool, cleared: bool) -> None:
        """Say goodbye, and wait until it was heard."""
        if await self.say({"op": "leave", "keep": keep, "cleared": cleared}):
            socket = self._socket
            if socket is not None:
                await socket.close()

    async def _serve(self, session: aiohttp.ClientSession) -> str:
        name = quote(self._order.cluster, safe="")
        url = f"{self._order.address}/api/v1/clusters/{name}/workers/channel"
        async with session.ws_connect(
            url,
            headers={"Authorization": f"token {self._ticket}"},
            heartbeat=HEARTBEAT,
            max_msg_size=4 * MAX_FRAME,
            proxy=self._order.proxy,
        ) as socket:
            self._socket, self._refused_since = socket, None
            await self.say(self._hello)
            while True:
                frame = await socket.receive()
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    break
                over = self._hear(json.loads(frame.data))
                if over:
                    return over
            if frame.data == aiohttp.WSCloseCode.POLICY_VIOLATION:
                self._tell("refused", str(frame.extra))
        return ""

    def _hear(self, message: Message) -> str:
        """Take one message; why it is over, when it is."""
        op = message.get("op")
        if op == "welcome":
            self._ticket = str(message.get("ticket") or self._ticket)
            self._tell("connected", "")
        elif op == "standby":
            self._tell("standby", str(message.get("by")))
        elif op == "active":
            other = str(message.get("from") or "")
            self._tell("took" if other else "active", other)
        elif op == "stopping" and self._stopping is not None and not self._stopping.done():
            self._stopping.set_result(message.get("alone") is not False)
        elif op == "over":
            return str(message.get("reason") or "the cluster has ended")
        elif "id" in message:
            task = asyncio.ensure_future(self._obey(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return ""

    async def _obey(self, message: Message) -> None:
        socket = self._socket
        answer = await self._answer(message)
        if socket is self._socket:  # an answer is worth nothing to another connection
            await self.say({**answer, "id": message["id"]})

    def _refused(self, error: aiohttp.WSServerHandshakeError) -> str:
        if error.status == 410:
            return "the cluster has ended"
        if error.status == 409:
            return "the gateway does not take workers from notebooks for this cluster"
        if error.status in (401, 403, 404):
            self._refused_since = self._refused_since or _now()
            if _now() - self._refused_since > REFUSED:
                return f"the gateway has not known this cluster for {REFUSED:.0f} s"
        return ""


def _now() -> float:
    return asyncio.get_running_loop().time()
