"""The door's side of the control socket: servers that come and go, and sockets that wait for them.

Several servers may be connected (an old one that is ending and its successor): the newest gets the
sockets. A socket that was sent and not acknowledged is still ours too; when its server goes, it
returns to the head of the queue, in the order in which it came.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Protocol

from penstock.door import protocol
from penstock.door.config import Address
from penstock.door.logs import Log
from penstock.door.loop import HUNG_UP, WRITABLE, Deadlines, Loop
from penstock.door.routes import Routes, check_route
from penstock.door.sniff import Arrival

_MAX_LINKS = 32
_MESSAGES_A_TURN = 64


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
        self._links: list[_Link] = []
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
        self._links.append(_Link(self, sock, pid))

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

    def gone(self, link: _Link, unacknowledged: list[Arrival]) -> None:
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


class _Link:
    """One control connection."""

    def __init__(self, handover: Handover, sock: socket.socket, pid: int) -> None:
        self._handover = handover
        self._sock = sock
        self._pid = pid
        self._unacknowledged: OrderedDict[int, Arrival] = OrderedDict()
        self._table: dict[str, Address] = {}
        self.serves = False
        self._operations: dict[str, Callable[[Mapping[str, object]], None]] = {
            "serve": self._serve,
            "table": self._on_table,
            "put": self._put,
            "drop": self._drop,
            "took": self._took,
            "missed": self._missed,
            "info": self._info,
            "retire": lambda message: handover.door.retire(),
            "stop": lambda message: handover.door.stop(),
        }
        handover.loop.add(sock.fileno(), self._on_event)

    def send_socket(self, number: int, arrival: Arrival) -> bool:
        """Send one socket; false when the link is full, or gone (then it no longer serves)."""
        message = protocol.encode({"op": "socket", "id": number, "tls": arrival.tls})
        rights = struct.pack("i", arrival.sock.fileno())
        try:
            self._sock.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except BlockingIOError:
            return False  # the link becomes writable later, and tells
        except OSError as error:
            self._handover.log.warning("link failed", pid=self._pid, error=error.strerror)
            self.serves = False
            self._handover.loop.again.append(self.close)
            return False
        self._unacknowledged[number] = arrival
        return True

    def forget(self, arrival: Arrival) -> None:
        """Expect no acknowledgement for this one."""
        for number, sent in self._unacknowledged.items():
            if sent is arrival:
                del self._unacknowledged[number]
                return

    def close(self) -> None:
        """End the link; does nothing the second time."""
        if self._sock.fileno() < 0:
            return
        served, self.serves = self.serves, False
        self._handover.loop.forget(self._sock.fileno())
        self._sock.close()
        left = list(self._unacknowledged.values())
        self._unacknowledged.clear()
        if served:
            self._handover.log.info("server gone", pid=self._pid, returned=len(left))
        self._handover.gone(self, left)

    def _on_event(self, mask: int) -> None:
        for _ in range(_MESSAGES_A_TURN):
            if not self._receive():
                break
        else:
            self._handover.loop.again.append(lambda: self._on_event(0))
        if mask & WRITABLE:
            self._handover.flush()

    def _receive(self) -> bool:
        """Take one message; false when there is none left, or the link is gone."""
        if self._sock.fileno() < 0:
            return False
        try:
            data = self._sock.recv(protocol.MAX_MESSAGE)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            # The server died with messages from us unread. Its own last ones can still be read.
            return True
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        try:
            message = protocol.decode(data)
            operation = self._operations.get(str(message["op"]))
            if operation is not None:  # a newer server may know more; that must not hurt
                operation(message)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            self._handover.log.warning("bad control message", pid=self._pid, error=str(error))
        return True

    def _serve(self, message: Mapping[str, object]) -> None:
        self.serves = True
        self._handover.log.info("server connected", pid=self._pid)
        self._handover.flush()

    def _on_table(self, message: Mapping[str, object]) -> None:
        routes = message["routes"]
        if not isinstance(routes, dict):
            raise ValueError("routes must be an object")
        self._table.update(check_route(name, address) for name, address in routes.items())
        if not message.get("more"):
            table, self._table = self._table, {}
            self._handover.routes.replace(table)

    def _put(self, message: Mapping[str, object]) -> None:
        self._handover.routes.put(*check_route(message["name"], message["address"]))

    def _drop(self, message: Mapping[str, object]) -> None:
        self._handover.routes.drop(str(message["name"]))

    def _took(self, message: Mapping[str, object]) -> None:
        arrival = self._unacknowledged.pop(_number(message), None)
        if arrival is not None:
            self._handover.took(arrival)

    def _missed(self, message: Mapping[str, object]) -> None:
        arrival = self._unacknowledged.pop(_number(message), None)
        if arrival is not None:
            self._handover.again([arrival])

    def _info(self, message: Mapping[str, object]) -> None:
        try:
            self._sock.send(protocol.encode({"op": "info", **self._handover.door.info()}))
        except BlockingIOError:
            self._handover.log.warning("link too slow for an answer", pid=self._pid)
        except OSError:
            self.close()


def _number(message: Mapping[str, object]) -> int:
    number = message["id"]
    if not isinstance(number, int):
        raise ValueError("id must be a number")
    return number
