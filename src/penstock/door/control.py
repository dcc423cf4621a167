"""One control connection to the door: a server, or somebody who asks.

The messages are described in ``protocol.py``. Whatever comes is checked; a bad message is logged
and changes nothing.
"""

from __future__ import annotations

import socket
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from penstock.door import protocol
from penstock.door.config import Address
from penstock.door.loop import WRITABLE
from penstock.door.routes import check_route
from penstock.door.sniff import Arrival

if TYPE_CHECKING:
    from penstock.door.handover import Handover

_MESSAGES_A_TURN = 64


class ControlLink:
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
