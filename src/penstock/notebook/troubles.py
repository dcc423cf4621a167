"""Tells the notebook why its workers are not submitted, each reason once.

The gateway keeps the same words as an event of the cluster; but whoever has just written ``scale``
looks at the notebook, and would wait there for workers that cannot come.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

Message = Mapping[str, object]

_TOLD = ("rejected", "unavailable")
"""A full queue is no trouble, and the next look settles what is uncertain."""


class Troubles:
    """``carry_out``: carries out a request. ``tell``: hears ``trouble`` with a reason, and ``better``."""

    def __init__(
        self,
        carry_out: Callable[[Message], Awaitable[dict[str, object]]],
        tell: Callable[[str, str], None],
    ) -> None:
        self._carry_out = carry_out
        self._tell = tell
        self._said = ""

    async def answer(self, message: Message) -> dict[str, object]:
        """The answer to one request."""
        answer = await self._carry_out(message)
        if message.get("op") == "submit":
            self._judge(answer)
        return answer

    def _judge(self, answer: Message) -> None:
        """What a submission's answer has that is news."""
        if answer.get("op") == "done":
            if self._said:
                self._tell("better", "")
            self._said = ""
        elif answer.get("kind") in _TOLD and answer.get("text") != self._said:
            self._said = str(answer.get("text"))
            self._tell("trouble", self._said)
