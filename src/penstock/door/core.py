"""What holds the door's parts together: accepting, limits, deadlines, and its end.

Nothing that a client or a server does may end a door. It ends at SIGTERM, SIGINT, ``stop`` or, after
``retire``, with its last connection.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import time
from functools import partial

from penstock import __version__
from penstock.door import protocol
from penstock.door.config import DoorConfig
from penstock.door.handover import Handover
from penstock.door.listen import Control
from penstock.door.logs import Log
from penstock.door.loop import Deadlines, Loop
from penstock.door.routes import Routes
from penstock.door.sniff import Arrival
from penstock.door.splice import Pipes, Pump

_ACCEPTS_A_TURN = 64
_ACCEPT_BACK_OFF = 0.5
"""Seconds without accepting after the system ran out of descriptors or memory."""
_LINGER = 2.0
_RESERVED_FILES = 96
"""Descriptors kept for control connections, the log, pipes and the route file."""
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Door:
    """One door, from its open sockets to its end."""

    def __init__(
        self,
        config: DoorConfig,
        log: Log,
        routes: Routes,
        control: Control,
        listeners: list[socket.socket],
        files: int,
    ) -> None:
        self.loop = Loop()
        self.pipes = Pipes()
        self.routes = routes
        self.sniffing = Deadlines(config.sniff_seconds, self._sniffed_too_long)
        self.connecting = Deadlines(config.connect_seconds, self._connected_too_late)
        self.leaving = Deadlines(_LINGER, self._left_too_late)
        self._config = config
        self._log = log
        self._control = control
        self._listeners = listeners
        self._capacity = max(8, (files - _RESERVED_FILES) // 2)
        self._accepting = True
        self._accept_after = 0.0
        self._retiring = False
        self._arrivals: set[Arrival] = set()
        self._by_origin: dict[str, int] = {}
        self._pumps: set[Pump] = set()
        self._accepted = 0
        self._refused: dict[str, int] = {}
        self._waiting = Deadlines(config.pending_seconds, self._waited_too_long)
        self._handover = Handover(self.loop, log, routes, self._waiting, config.pending_limit, self)
        self._bound = [sock.getsockname()[:2] for sock in listeners]

    def run(self, listener: socket.socket) -> None:
        """Serve until the end; ``listener`` is the control socket."""
        self._handover.listen(listener)
        for sock in self._listeners:
            self.loop.add_level(sock.fileno(), partial(self._accept, sock))
        self.loop.every_tick(self._tick)
        wakeup, poked = socket.socketpair()
        for end in (wakeup, poked):
            end.setblocking(False)
        self.loop.add(wakeup.fileno(), lambda mask: None)
        signal.set_wakeup_fd(poked.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: self.stop())
        gc.collect()
        gc.freeze()
        try:
            self.loop.run()
        finally:
            signal.set_wakeup_fd(-1)
            wakeup.close()
            poked.close()
            self._end()

    def info(self) -> dict[str, object]:
        """Facts for servers, the supervisor and metrics; counters since the start."""
        return {
            "pid": os.getpid(),
            "version": __version__,
            "protocol": protocol.VERSION,
            "config": self._config.to_json(),
            "bound": self._bound,
            "retiring": self._retiring,
            "connections": len(self._arrivals),
            "spliced": len(self._pumps),
            "sniffing": len(self.sniffing),
            "pending": self._handover.pending,
            "servers": self._handover.servers,
            "routes": len(self.routes.table),
            "accepted": self._accepted,
            "handed": self._handover.handed,
            "refused": self._refused,
        }

    def stop(self) -> None:
        """End after this turn of the loop."""
        self.loop.running = False

    def retire(self) -> None:
        """Stop listening and free the control socket; what is spliced lives on to its own end."""
        if self._retiring:
            return
        self._retiring = True
        self._log.info("retiring", spliced=len(self._pumps))
        for sock in self._listeners:
            self.loop.forget(sock.fileno())
            sock.close()
        self._listeners.clear()
        self._save_routes()
        self._handover.retire()
        self._control.release()
        self._end_when_empty()

    def hand_over(self, arrival: Arrival) -> None:
        """Give the socket to the server, now or when there is one."""
        self._handover.offer(arrival)

    def refused(self, arrival: Arrival, why: str, **facts: object) -> None:
        """Count and log a refusal."""
        self._refused[why] = self._refused.get(why, 0) + 1
        self._log.info("refused", why=why, client=arrival.address, **facts)

    def spliced(self, pump: Pump) -> None:
        """Note a pump that runs."""
        self._pumps.add(pump)

    def left(self, arrival: Arrival, pump: Pump | None) -> None:
        """The connection is over, as far as the door is concerned."""
        if pump is not None:
            self._pumps.discard(pump)
        self._handover.forget(arrival)
        self._arrivals.discard(arrival)
        count = self._by_origin.get(arrival.origin, 0) - 1
        if count > 0:
            self._by_origin[arrival.origin] = count
        else:
            self._by_origin.pop(arrival.origin, None)
        self._end_when_empty()

    def _end_when_empty(self) -> None:
        if self._retiring and not self._arrivals:
            self.stop()

    def _accept(self, listener: socket.socket, mask: int) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            if len(self._arrivals) >= self._capacity:
                self._pause(0.0, "too many connections", capacity=self._capacity)
                return
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # accept(2): errors of the connection itself are passed on here, and mean nothing
                # for the next one; only exhaustion would repeat at once.
                if error.errno in _EXHAUSTED:
                    self._pause(_ACCEPT_BACK_OFF, "cannot accept", error=error.strerror)
                    return
                continue
            self._accepted += 1
            self._admit(sock, str(address[0]))

    def _admit(self, sock: socket.socket, address: str) -> None:
        origin = address if "." in address else _network(address)
        count = self._by_origin.get(origin, 0)
        if count >= self._config.per_address:
            self._refused["too many of one address"] = (
                self._refused.get("too many of one address", 0) + 1
            )
            self._log.warning("refused", why="too many of one address", client=address)
            sock.close()
            return
        self._by_origin[origin] = count + 1
        sock.setblocking(False)
        arrival = Arrival(self, sock, address, origin)
        self._arrivals.add(arrival)
        arrival.start()

    def _pause(self, seconds: float, why: str, **facts: object) -> None:
        """Leave new connections in the kernel's backlog for a while."""
        self._log.warning("not accepting", why=why, **facts)
        self._accepting = False
        self._accept_after = time.monotonic() + seconds
        for sock in self._listeners:
            self.loop.remove(sock.fileno())

    def _tick(self, now: float) -> None:
        for deadlines in (self.sniffing, self.connecting, self.leaving, self._waiting):
            deadlines.check(now)
        if self.routes.dirty:
            self._save_routes()
        self._handover.tick()
        room = len(self._arrivals) < self._capacity
        if not self._accepting and now >= self._accept_after and room:
            self._accepting = True
            for sock in self._listeners:
                self.loop.add_level(sock.fileno(), partial(self._accept, sock))

    def _save_routes(self) -> None:
        try:
            self.routes.save()
        except OSError as error:
            self._log.error("routes not saved", error=str(error))

    def _sniffed_too_long(self, arrival: object) -> None:
        assert isinstance(arrival, Arrival)
        arrival.refuse(b"", "first bytes took too long")

    def _connected_too_late(self, arrival: object) -> None:
        assert isinstance(arrival, Arrival)
        arrival.connect_timed_out()

    def _left_too_late(self, arrival: object) -> None:
        assert isinstance(arrival, Arrival)
        arrival.drop()

    def _waited_too_long(self, arrival: object) -> None:
        assert isinstance(arrival, Arrival)
        self._handover.expire(arrival)

    def _end(self) -> None:
        if self.routes.dirty and not self._retiring:
            self._save_routes()
        for sock in self._listeners:
            sock.close()
        self._retiring = False
        for pump in list(self._pumps):
            pump.close()
        for arrival in list(self._arrivals):
            arrival.drop()
        self._handover.close()
        self._control.release()
        self.pipes.close()
        self.loop.close()
        self._log.info("ended")


def _network(address: str) -> str:
    """The /64 network of an IPv6 address: one host may use any address in it."""
    return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:8].hex()
