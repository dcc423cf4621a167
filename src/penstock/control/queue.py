"""Wake-ups: a queue of cluster names in which each stands at most once.

Everything that may change a plan (a call, a message, a look, a timer) only wakes a name. A name
that is woken while it waits stays one entry, a name that is woken while it is worked on comes
again afterwards, and no name is worked on twice at once: so the reconcile of a cluster is the only
writer of its journal, without locks.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque


class WakeQueue:
    """Names to work on, now or at a time of the running loop's clock."""

    def __init__(self) -> None:
        self._ready: deque[str] = deque()
        self._waiting: set[str] = set()
        self._working: set[str] = set()
        self._again: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._news = asyncio.Event()
        self._idle = asyncio.Event()

    def wake(self, name: str) -> None:
        """This name wants to be worked on soon."""
        if name in self._working:
            self._again.add(name)
        elif name not in self._waiting:
            self._waiting.add(name)
            self._ready.append(name)
            self._idle.clear()
            self._news.set()

    def wake_at(self, name: str, when: float) -> None:
        """Wake at a time of the loop's clock; one time a name, the last one counts."""
        timer = self._timers.get(name)
        if timer is not None:
            if timer.when() == when:
                return
            timer.cancel()
            del self._timers[name]
        if when < math.inf:
            loop = asyncio.get_running_loop()
            self._timers[name] = loop.call_at(when, self._fire, name)

    async def get(self) -> str:
        """The next name; call ``done`` with it afterwards."""
        while not self._ready:
            self._news.clear()
            await self._news.wait()
        name = self._ready.popleft()
        self._waiting.discard(name)
        self._working.add(name)
        return name

    def done(self, name: str) -> None:
        """The work on a name is over; it comes again if it was woken meanwhile."""
        self._working.discard(name)
        if name in self._again:
            self._again.discard(name)
            self.wake(name)
        if not self._ready and not self._working:
            self._idle.set()

    async def idle(self) -> None:
        """Return when nothing waits and nothing is worked on."""
        if self._ready or self._working:
            await self._idle.wait()

    def close(self) -> None:
        """Cancel all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _fire(self, name: str) -> None:
        del self._timers[name]
        self.wake(name)
