"""The byte pump between a client and a scheduler, in both directions.

Small reads are copied (``recv_into`` and ``send`` on one shared buffer: two system calls). A read
that fills the buffer means bulk, and from then on the bytes go through a pipe with ``splice`` and
never enter this process. What one side does not take stays in that pipe or in one buffer's worth of
rest, and until it is taken nothing more is read: a slow reader slows its sender, not the door.
Pipes are lent from a small pool and only while bytes flow, so an idle connection holds none.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from fcntl import F_SETPIPE_SZ, fcntl

from penstock.door.loop import BROKEN, ENDING, READABLE, WRITABLE, Loop

BUFFER_SIZE = 64 * 1024
_PIPE_SIZE = 1 << 20
_POOL = 24
"""Pipes at most. Linux lets one user have 64 MiB of pipe buffers (fs.pipe-user-pages-soft)."""
_ROUNDS = 8
"""Moves of one direction before others get their turn."""
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK

_buffer = bytearray(BUFFER_SIZE)
_view = memoryview(_buffer)


class Pipes:
    """A pool of big pipes. ``lend`` gives None when there are enough already: then copy."""

    def __init__(self) -> None:
        self._free: list[tuple[int, int]] = []
        self._made = 0

    def lend(self) -> tuple[int, int] | None:
        """An empty pipe (read end, write end), or None."""
        if self._free:
            return self._free.pop()
        if self._made >= _POOL:
            return None
        try:
            pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        with contextlib.suppress(OSError):  # over the user's share: a small pipe serves as well
            fcntl(pipe[1], F_SETPIPE_SZ, _PIPE_SIZE)
        self._made += 1
        return pipe

    def give_back(self, pipe: tuple[int, int], empty: bool) -> None:
        """End of a loan; a pipe with bytes left in it is closed."""
        if empty:
            self._free.append(pipe)
            return
        self._made -= 1
        os.close(pipe[0])
        os.close(pipe[1])

    def close(self) -> None:
        """Close all pipes that are not lent."""
        for pipe in self._free:
            self._made -= 1
            os.close(pipe[0])
            os.close(pipe[1])
        self._free.clear()


class Pump:
    """Two connected sockets. ``closed`` is called once, when both are closed."""

    def __init__(
        self,
        loop: Loop,
        pipes: Pipes,
        a: socket.socket,
        b: socket.socket,
        closed: Callable[[Pump], None],
    ) -> None:
        self.loop = loop
        self.pipes = pipes
        self._closed: Callable[[Pump], None] | None = closed
        self.one = _Flow(self, a, b)
        self.two = _Flow(self, b, a)
        self.one.back, self.two.back = self.two, self.one

    def start(self) -> None:
        """Take over both sockets, which the loop watches already, and move what waits in them."""
        self.loop.change(self.one.source, self.one.on_event)
        self.loop.change(self.two.source, self.two.on_event)
        self.one.on_event(ENDING)
        self.two.on_event(ENDING)

    def close(self) -> None:
        """End both connections; what the kernel has taken it still delivers."""
        closed, self._closed = self._closed, None
        if closed is None:
            return
        for flow in (self.one, self.two):
            self.loop.forget(flow.source)
            flow.end()
        closed(self)


class _Flow:
    """One direction: bytes read from ``source`` that go to ``target``."""

    __slots__ = (
        "_pump",
        "_recv_into",
        "_send",
        "_sock",
        "_target_sock",
        "back",
        "done",
        "ending",
        "held",
        "pipe",
        "queued",
        "rest",
        "source",
        "stuck",
        "target",
    )

    back: _Flow

    def __init__(self, pump: Pump, source: socket.socket, target: socket.socket) -> None:
        self._pump = pump
        self._sock = source
        self._target_sock = target
        self._recv_into = source.recv_into
        self._send = target.send
        self.source = source.fileno()
        self.target = target.fileno()
        self.rest: bytes | None = None
        self.pipe: tuple[int, int] | None = None
        self.held = 0
        self.stuck = False
        self.queued = False
        self.ending = False
        self.done = False

    def on_event(self, mask: int) -> None:
        """Something happened at the source, which is also the other direction's target."""
        try:
            if mask & BROKEN:
                self._pump.close()
                return
            if mask & WRITABLE and self.back.stuck:
                self.back.stuck = False
                self.back.move()
            if mask & READABLE:
                if mask & ENDING:
                    self.ending = True
                if not (self.stuck or self.done):
                    self.move()
        except OSError:  # reset, timed out, unreachable: this connection is over
            self._pump.close()

    def move(self) -> None:
        """Move bytes until there are none, the target is full, or it is others' turn."""
        if self.rest is None and self.pipe is None:
            try:
                size = self._recv_into(_buffer)
                if 0 < size < BUFFER_SIZE:
                    self._pump.loop.small = True
                    if self._put(_view[:size]) and self.ending:
                        self._later()  # the edge that told of the end is not repeated
                    return
            except BlockingIOError:
                self.ending = False
                return
            if size == 0:
                self._finish()
                return
            if not self._put(_view):
                return
            self.pipe = self._pump.pipes.lend()
        elif self.rest is not None and not self._put(memoryview(self.rest)):
            return
        if self.pipe is None:
            self._later()
        else:
            self._bulk(*self.pipe)

    def _put(self, data: memoryview) -> bool:
        """Send, keep what does not fit; says whether all of it fitted."""
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            self.rest = None
            return True
        self.rest = bytes(data[sent:])
        self.stuck = True
        return False

    def _bulk(self, drain: int, fill: int) -> None:
        for _ in range(_ROUNDS):
            if not self.held:
                try:
                    self.held = os.splice(self.source, fill, _PIPE_SIZE, flags=_FLAGS)
                except BlockingIOError:
                    self.ending = False
                    self._return_pipe()
                    return
                if not self.held:
                    self._return_pipe()
                    self._finish()
                    return
            try:
                self.held -= os.splice(drain, self.target, self.held, flags=_FLAGS)
            except BlockingIOError:
                self.stuck = True
                return
        self._later()

    def _later(self) -> None:
        if not self.queued:
            self.queued = True
            self._pump.loop.again.append(self._resume)

    def _resume(self) -> None:
        self.queued = False
        if not (self.done or self.stuck):
            try:
                self.move()
            except OSError:
                self._pump.close()

    def _return_pipe(self) -> None:
        if self.pipe is not None:
            self._pump.pipes.give_back(self.pipe, not self.held)
            self.pipe = None

    def _finish(self) -> None:
        """The source will send no more: tell the target, and end when both directions are done."""
        self.done = True
        if self.back.done:
            self._pump.close()
        else:
            self._target_sock.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        """Give everything back."""
        self.done = True
        self._return_pipe()
        self.rest = None
        self._sock.close()
