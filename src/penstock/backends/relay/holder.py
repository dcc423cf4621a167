"""One notebook that is connected for one cluster: questions with an id, answers by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from penstock.backends.relay.wire import Hello, parse_failure
from penstock.model.errors import Unavailable, Uncertain

Send = Callable[[Mapping[str, object]], None]


class Holder:
    """See the module. ``send`` never blocks, and may lose what it is given."""

    def __init__(self, hello: Hello, send: Send) -> None:
        self.place = hello.place
        self.who = hello.who
        self.send = send
        self._asked: dict[int, asyncio.Future[Mapping[str, object]]] = {}
        self._last = 0
        self._gone = False

    async def ask(self, message: Mapping[str, object], timeout: float) -> Mapping[str, object]:
        """Its answer. Raises the error that it answers with, Unavailable when the question was
        never sent, Uncertain when nothing came back in ``timeout`` seconds or it is gone."""
        if self._gone:
            raise Unavailable(f"{self.who} is not connected any more")
        self._last += 1
        number = self._last
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self.send({**message, "id": number})
        try:
            return await asyncio.wait_for(answer, timeout)
        except asyncio.TimeoutError:
            raise Uncertain(f"{self.who} did not answer for {timeout:g} s") from None
        finally:
            del self._asked[number]

    def answered(self, message: Mapping[str, object]) -> None:
        """Take an answer; one that nobody asked for, or not any more, is dropped."""
        number = message.get("id")
        waiting = self._asked.get(number) if isinstance(number, int) else None
        if waiting is None or waiting.done():
            return
        if message.get("op") == "failed":
            waiting.set_exception(parse_failure(message))
        else:
            waiting.set_result(message)

    def gone(self) -> None:
        """Its connection is over: what was asked and not answered is uncertain."""
        self._gone = True
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_exception(Uncertain(f"{self.who} was cut off before it answered"))
