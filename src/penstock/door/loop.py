"""The door's event loop: one thread, epoll, deadlines, and a short busy wait.

Not asyncio: a round trip through the door costs four wake-ups, and asyncio's futures, handles and
selector objects would more than double what the system calls themselves cost. Every descriptor is
registered once, edge-triggered, and never changed; its handler stands in a list at its number.
"""

from __future__ import annotations

import select
import time
from collections import OrderedDict
from collections.abc import Callable

Handler = Callable[[int], None]
"""Called with the epoll mask of an event; must tolerate an event that means nothing."""

READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
WRITABLE = select.EPOLLOUT
ENDING = select.EPOLLRDHUP
BROKEN = select.EPOLLERR
HUNG_UP = select.EPOLLHUP | select.EPOLLERR
EVERYTHING = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET

_BATCH = 128
_TICK = 0.25
"""Seconds between two looks at the deadlines: they are bounds, not appointments."""

_SPIN = 60e-6
"""Seconds of busy wait after small traffic. A reply within that time finds the door awake, which
saves the price of falling asleep and waking; an idle or a busy door never spins."""


class Deadlines:
    """Things that end together after the same time, oldest first; ``expire`` is asked to end them."""

    def __init__(self, seconds: float, expire: Callable[[object], None]) -> None:
        self._seconds = seconds
        self._expire = expire
        self._ends: OrderedDict[object, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ends)

    def __contains__(self, thing: object) -> bool:
        return thing in self._ends

    def add(self, thing: object, now: float) -> None:
        """Start the time of a thing (again)."""
        self._ends.pop(thing, None)
        self._ends[thing] = now + self._seconds

    def discard(self, thing: object) -> None:
        """The thing came to its end by itself."""
        self._ends.pop(thing, None)

    def check(self, now: float) -> None:
        """Expire all whose time is over."""
        while self._ends:
            thing = next(iter(self._ends))
            if self._ends[thing] > now:
                return
            del self._ends[thing]
            self._expire(thing)


class Loop:
    """Descriptors, deadlines and the wait for either."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: list[Handler | None] = [None] * 1024
        self._fresh: set[int] = set()
        self._ticks: list[Callable[[float], None]] = []
        self.now = time.monotonic()
        """The time of the last look at the clock, good enough for deadlines."""
        self.again: list[Callable[[], None]] = []
        """Work that was cut off for fairness; done after the next look at events."""
        self.small = False
        """Set by whoever moved a small message: an answer may come at once."""
        self.running = True

    def add(self, fd: int, handler: Handler) -> None:
        """Watch a descriptor for everything, edge-triggered. Closing it ends that, unless another
        process holds a copy: then call ``remove`` first."""
        if fd >= len(self._handlers):
            self._handlers.extend([None] * (fd + 1024 - len(self._handlers)))
        self._handlers[fd] = handler
        self._fresh.add(fd)
        self._epoll.register(fd, EVERYTHING)

    def add_level(self, fd: int, handler: Handler) -> None:
        """Watch a listening descriptor: level-triggered, so that nothing is forgotten in a backlog."""
        self.add(fd, handler)
        self._epoll.modify(fd, select.EPOLLIN)

    def change(self, fd: int, handler: Handler) -> None:
        """Give a watched descriptor another handler; an edge that came before is not repeated."""
        self._handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """The descriptor is being closed: no handler must be called for it any more."""
        self._handlers[fd] = None

    def remove(self, fd: int) -> None:
        """Stop watching a descriptor that lives on elsewhere."""
        self._handlers[fd] = None
        self._epoll.unregister(fd)

    def every_tick(self, tick: Callable[[float], None]) -> None:
        """Call ``tick(now)`` several times a second."""
        self._ticks.append(tick)

    def run(self) -> None:
        """Serve until ``running`` is false."""
        poll = self._epoll.poll
        next_tick = 0.0
        fresh = self._fresh
        while self.running:
            fresh.clear()
            events = poll(0, _BATCH) if self.again else self._wait(next_tick)
            if self.again:
                work, self.again = self.again, []
                for step in work:
                    step()
            handlers = self._handlers
            for fd, mask in events:
                if fresh and fd in fresh:
                    continue  # the event was for a descriptor of that number, closed by now
                handler = handlers[fd]
                if handler is not None:
                    handler(mask)
            if not events or self.now >= next_tick:
                self.now = now = time.monotonic()
                if now >= next_tick:
                    next_tick = now + _TICK
                    for tick in self._ticks:
                        tick(now)

    def _wait(self, next_tick: float) -> list[tuple[int, int]]:
        poll = self._epoll.poll
        if self.small:
            self.small = False
            end = time.monotonic() + _SPIN
            while time.monotonic() < end:
                events = poll(0, _BATCH)
                if events:
                    return events
        self.now = time.monotonic()
        return poll(max(0.0, next_tick - self.now), _BATCH)

    def close(self) -> None:
        """Give the epoll descriptor back."""
        self._epoll.close()
