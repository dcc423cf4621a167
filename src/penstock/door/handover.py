"""The door's side of the control socket: servers that come and go, and sockets that wait for them.

Several servers may be connected (an old one that is ending and its successor): the newest gets the
sockets. A socket that was sent and not acknowledged is still ours too; when its server goes, it
returns to the head of the queue, in the order in which it came.
"""

from __future__ import annotations

import os
import socket
from collections import OrderedDict
from typing import Protocol

from penstock.door import protocol
from penstock.door.control import ControlLink
from penstock.door.logs import Log
from penstock.door.loop import HUNG_UP, Deadlines, Loop
from penstock.door.routes import Routes
from penstock.door.sniff import Arrival

_MAX_LINKS = 32


class Commands(Protocol):
    """What a server may ask of the process."""

    def info(self) -> dict[str, object]:
        """Facts about the door."""

    def retire(self) -> None:
        """Stop listening, end with the last connection."""

    def stop(self) -> None:
        """End now."""


class Handover:
    """The control socket, its links, and the queue of sockets for the server."""

    def __init__(
        self, loop: Loop, log: Log, routes: Routes, waiting: Deadlines, limit: int, door: Commands
    ) -> None:
        self.loop = loop
        self.log = log
        self.routes = routes
        self.door = door
        self._limit = limit
        self._waiting = waiting
        self._queue: OrderedDict[Arrival, None] = OrderedDict()
        self._links: list[ControlLink] = []
        self._listener: socket.socket | None = None
        self._next_id = 0
        self._retired = False
        self.handed = 0

    @property
    def pending(self) -> int:
        """Sockets that no server has acknowledged."""
        return len(self._waiting)

    @property
    def servers(self) -> int:
        """Servers that take sockets."""
        return sum(link.serves for link in self._links)

    def listen(self, listener: socket.socket) -> None:
        """Serve this listening control socket."""
        self._listener = listener
        self.loop.add_level(listener.fileno(), self._accept)

    def _accept(self, mask: int) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        pid, uid, _ = protocol.peer(sock)
        if uid not in (0, os.geteuid()) or len(self._links) >= _MAX_LINKS:
            self.log.warning("control connection refused", pid=pid, uid=uid)
            sock.close()
            return
        sock.setblocking(False)
        self._links.append(ControlLink(self, sock, pid))

    def offer(self, arrival: Arrival) -> None:
        """Queue a socket for the server; it is refused at once when too many wait already."""
        if len(self._waiting) >= self._limit or (self._retired and not self.servers):
            arrival.away()
            return
        self._waiting.add(arrival, self.loop.now)
        self._queue[arrival] = None
        self.loop.change(arrival.sock.fileno(), lambda mask: self._client_event(arrival, mask))
        self.flush()

    def _client_event(self, arrival: Arrival, mask: int) -> None:
        if mask & HUNG_UP:
            arrival.drop()

    def flush(self) -> None:
        """Send as many waiting sockets as the newest server's link takes."""
        while self._queue:
            link = next((link for link in reversed(self._links) if link.serves), None)
            if link is None:
                return
            arrival = next(iter(self._queue))
            self._next_id += 1
            if not link.send_socket(self._next_id, arrival):
                if link.serves:
                    return
                continue
            del self._queue[arrival]

    def took(self, arrival: Arrival) -> None:
        """A server owns this socket now."""
        self._waiting.discard(arrival)
        self.handed += 1
        arrival.give_up_watch()
        arrival.drop()

    def again(self, arrivals: list[Arrival]) -> None:
        """These were sent and did not arrive: back to the head of the queue."""
        for arrival in reversed(arrivals):
            self._queue[arrival] = None
            self._queue.move_to_end(arrival, last=False)

    def expire(self, arrival: Arrival) -> None:
        """Nobody took it in time."""
        self._waiting.add(arrival, self.loop.now)
        self.forget(arrival)
        arrival.away()

    def forget(self, arrival: Arrival) -> None:
        """The client went away, or was sent away."""
        if arrival not in self._waiting:
            return
        self._waiting.discard(arrival)
        self._queue.pop(arrival, None)
        for link in self._links:
            link.forget(arrival)

    def gone(self, link: ControlLink, unacknowledged: list[Arrival]) -> None:
        """A link ended; what it had not acknowledged goes to the next server."""
        self._links.remove(link)
        self.again(unacknowledged)
        self.flush()

    def tick(self) -> None:
        """Try again what failed for want of something; let servers go that nothing waits for."""
        self.flush()
        if self._retired and not self._waiting:
            for link in list(self._links):
                link.close()

    def retire(self) -> None:
        """Free the control socket for a successor. Servers are let go, so that they find it, once
        they have what waits; what waits for no server is refused: none will come here again."""
        self._retired = True
        self.stop_listening()
        self.flush()
        if not self.servers:
            for arrival in list(self._queue):
                self.expire(arrival)

    def stop_listening(self) -> None:
        """Free the control socket for a successor."""
        if self._listener is not None:
            self.loop.forget(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def close(self) -> None:
        """End all links."""
        self.stop_listening()
        for link in list(self._links):
            link.close()
