"""Ending background tasks, for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Collection


async def end_tasks(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks until they are over: before Python 3.12 ``wait_for`` may swallow a cancel."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.5)
