"""The channel to the server: one WebSocket, kept for as long as the cluster may live.

The messages are defined in ``penstock.model.wire``. Tornado's client is used because
``distributed`` brings it along; no other WebSocket library is certain to be there.
"""

import json
import time
from typing import Any, Callable, Optional

from penstock.agent.base import MAX_FRAME, Message, backoff, ssl_context
from penstock.agent.child import describe, logger

REFUSED_TIME = 900.0  # seconds of nothing but "unknown cluster" or "wrong token"
STABLE = 10.0  # seconds after which a connection was a good one, and the next may come at once


class Channel:
    """The WebSocket to a server: connects, says hello, reads, and connects again, for ever."""

    def __init__(
        self,
        config: Message,
        hello: Callable[[], Message],
        receive: Callable[[Message], None],
    ) -> None:
        self.config = config
        self.hello = hello
        self.receive = receive
        self.last_contact = time.monotonic()
        self.refused_since: Optional[float] = None
        self.gone = False
        self.socket: Any = None
        self.sending: Any = None
        self.log = logger()

    @property
    def clear(self) -> bool:
        """True when connected and the last message has left for the network."""
        return self.socket is not None and (self.sending is None or self.sending.done())

    def send(self, message: Message) -> bool:
        """Queue a message; False when there is no connection now."""
        from tornado.websocket import WebSocketClosedError

        if self.socket is None:
            return False
        try:
            self.sending = self.socket.write_message(json.dumps(message))
        except WebSocketClosedError:
            return False
        self.sending.add_done_callback(lambda sent: sent.cancelled() or sent.exception())
        return True

    async def run(self) -> None:
        """Keep a connection to one of the servers until cancelled."""
        import asyncio

        pauses = backoff()
        while True:
            start = time.monotonic()
            for server in self.config["servers"]:
                if await self.serve_one(str(server)):
                    break
            if time.monotonic() - start > STABLE:
                pauses = backoff()
            await asyncio.sleep(next(pauses))

    async def serve_one(self, server: str) -> bool:
        """Hold one connection to its end; False when there never was one."""
        try:
            self.socket = await self.connect(server)
        except Exception as error:  # whatever a network, a proxy or a hostile answer brings
            self.note_refusal(getattr(error, "code", 0))
            self.log.info("no channel to %s: %s", server, describe(error))
            return False
        self.refused_since = None
        self.log.info("channel to %s is open", server)
        try:
            self.send(self.hello())
            await self.read()
        finally:
            code, reason = self.socket.close_code, self.socket.close_reason
            self.socket = self.sending = None
        self.log.info("channel to %s closed (%s %s)", server, code, reason or "")
        return True

    async def connect(self, server: str) -> Any:
        """Open the WebSocket; raises whatever goes wrong."""
        from tornado.httpclient import HTTPRequest
        from tornado.websocket import websocket_connect

        path = "/api/v1/clusters/%s/channel" % self.config["cluster"]
        request = HTTPRequest(
            "ws" + server.rstrip("/")[4:] + path,  # http → ws, https → wss
            headers={"Authorization": "token " + self.config["token"]},
            ssl_options=ssl_context(self.config) if server.startswith("https:") else None,
            connect_timeout=20,
            request_timeout=30,
        )
        return await websocket_connect(request, ping_interval=20, max_message_size=MAX_FRAME)

    async def read(self) -> None:
        """Hand on every message that is an object, until the connection ends."""
        while True:
            self.last_contact = time.monotonic()
            text = await self.socket.read_message()
            if text is None:
                return
            try:
                message = json.loads(text)
                if isinstance(message, dict):
                    self.receive(message)
            except Exception as error:
                self.log.warning("a message that makes no sense: %s", describe(error))

    def note_refusal(self, code: int) -> None:
        """Remember for how long servers have answered that they do not know us."""
        self.gone = code == 410
        if code in (401, 403, 404):
            self.refused_since = self.refused_since or time.monotonic()

    def hopeless(self, now: float) -> str:
        """Why there is no point in waiting for a server any longer; "" while there is."""
        give_up = self.config["give_up"]
        if self.gone:
            return "the server says that this cluster is over"
        if self.socket is None and now - self.last_contact > give_up:
            return "no server for %.0f seconds" % give_up
        refused = self.refused_since
        if refused is not None and now - refused > min(give_up, REFUSED_TIME):
            return "the server has not known this cluster for %.0f seconds" % (now - refused)
        return ""
