"""Hints to look sooner, for batch systems that tell nobody what happens in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator


class Hints:
    """``changes`` of ``penstock.backends.base.Backend`` after what the gateway itself has done.

    ``after``: seconds until the batch system has acted on what it was told.
    """

    def __init__(self, after: float) -> None:
        self._after = after
        self._waiting: set[asyncio.Event] = set()

    def give(self) -> None:
        """Something was submitted or cancelled."""
        for hint in self._waiting:
            hint.set()

    async def changes(self) -> AsyncIterator[None]:
        """Yields soon after each ``give``, once for many."""
        hint = asyncio.Event()
        self._waiting.add(hint)
        try:
            while True:
                await hint.wait()
                hint.clear()
                await asyncio.sleep(self._after)
                yield
        finally:
            self._waiting.discard(hint)
