"""The process itself: obeys the server, listens for the notebook's end, and cleans up behind it.

Standard input: the order, then ``{"op": "leave", "keep": bool}`` when the notebook closes its
cluster. Its end without that is the notebook's death. Standard output: JSON lines, ``{"event": …,
"text": …}``; ``connected`` or ``failed`` first, ``trouble`` when workers cannot be submitted and
``better`` when they can again, ``cancelled`` when jobs were told to end, ``end`` last.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import signal
import sys
from collections.abc import AsyncIterator
from typing import IO

from penstock.backends.base import Backend
from penstock.model.errors import PenstockError
from penstock.model.job import Batch
from penstock.notebook.backends import make_backend
from penstock.notebook.hands import Hands
from penstock.notebook.line import Line
from penstock.notebook.order import Order
from penstock.notebook.prepare import prepare
from penstock.notebook.troubles import Troubles

CLEAR = 60.0
"""Seconds that ending all jobs may take."""

GOODBYE = 10.0
"""Seconds that saying goodbye may take."""


def main() -> None:
    """Run until the cluster is over or the notebook is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted cell is not our end
    try:
        with open(0, "rb", buffering=0, closefd=False) as stdin:
            # Unbuffered: what follows the first line is read by the event loop.
            order = Order.parse(stdin.readline().decode())
            asyncio.run(_to_the_end(Process(order, stdin)))
    except PenstockError as error:
        tell("failed", str(error))
        sys.exit(1)


async def _to_the_end(process: Process) -> None:
    """Run, and be gone: a task that misses its cancellation (wait_for before 3.12 may) holds nobody."""
    await process.run()
    os._exit(0)


def tell(event: str, text: str = "") -> None:
    """Tell the notebook; it may be gone."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps({"event": event, "text": text}).encode() + b"\n")


class Process:
    """One order, carried out. ``stdin``: where the notebook speaks."""

    def __init__(self, order: Order, stdin: IO[bytes]) -> None:
        self._order = order
        self._stdin = stdin
        self._account = pwd.getpwuid(os.getuid())

    async def run(self) -> None:
        """From ``ready`` to ``end``. Raises PenstockError when it cannot begin."""
        backend, place = await make_backend(self._order.backend, self._order.gateway)
        try:
            await backend.observe()  # what is not installed, or lets nobody in, is told at once
            hands = Hands(
                backend,
                self._order.gateway,
                self._order.cluster,
                self._account.pw_name,
                self._prepare,
            )
            answer = Troubles(hands.answer, tell).answer
            await self._serve(backend, hands, Line(self._order, place, answer, tell))
        finally:
            await backend.aclose()
        tell("end")

    def _prepare(self, batch: Batch) -> Batch:
        account = self._account
        return prepare(batch, self._order.setup, account.pw_name, account.pw_dir)

    async def _serve(self, backend: Backend, hands: Hands, line: Line) -> None:
        """Until the server says that the cluster is over, or the notebook is gone."""
        serving = asyncio.ensure_future(line.run())
        leaving = asyncio.ensure_future(self._notebook())
        hinting = asyncio.ensure_future(_hint(backend, line))
        try:
            await asyncio.wait({serving, leaving}, return_when=asyncio.FIRST_COMPLETED)
            hinting.cancel()
            if serving.done():
                tell("over", serving.result())
                await hands.clear(CLEAR, _cancelled)
            elif leaving.result() or not await line.stop():
                await self._goodbye(line, keep=True, cleared=False)
            else:
                cleared = await hands.clear(CLEAR, _cancelled)
                await self._goodbye(line, keep=False, cleared=cleared)
        finally:
            for task in (serving, leaving, hinting):
                task.cancel()
            await asyncio.gather(serving, leaving, hinting, return_exceptions=True)

    async def _goodbye(self, line: Line, *, keep: bool, cleared: bool) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(line.leave(keep=keep, cleared=cleared), GOODBYE)

    async def _notebook(self) -> bool:
        """Whether the jobs shall go on, once the notebook has said so or is gone."""
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, told.set)

        def over() -> None:
            loop.remove_reader(parent)  # or the kernel goes on to say it
            told.set()

        # Besides the end of standard input: a child that the notebook forked may hold that open.
        with contextlib.suppress(OSError, AttributeError):  # a kernel before 5.3, another system
            parent = os.pidfd_open(self._order.parent)
            loop.add_reader(parent, over)
        ended = asyncio.ensure_future(told.wait())
        reading = asyncio.ensure_future(_leave_word(self._stdin))
        try:
            await asyncio.wait({ended, reading}, return_when=asyncio.FIRST_COMPLETED)
            word = reading.result() if reading.done() else None
            return self._order.keep if word is None else word
        finally:
            ended.cancel()
            reading.cancel()


async def _leave_word(stdin: IO[bytes]) -> bool | None:
    """What the notebook said at its end, None when it was cut off."""
    async for line in _lines(stdin):
        with contextlib.suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict) and said.get("op") == "leave":
                return said.get("keep") is True
    return None


async def _lines(stdin: IO[bytes]) -> AsyncIterator[bytes]:
    """Standard input line by line."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stdin)
    while line := await reader.readline():
        yield line


async def _hint(backend: Backend, line: Line) -> None:
    """Pass on that something may be new, at most twice a second."""
    async for _ in backend.changes():
        await line.say({"op": "changed"})
        await asyncio.sleep(0.5)


def _cancelled(count: int) -> None:
    tell("cancelled", str(count))
