"""What a notebook is told of submissions, and how often."""

import pytest

from penstock.notebook.troubles import Troubles

DONE = {"op": "done"}
PROXY = {"op": "failed", "kind": "unavailable", "text": "the X.509 proxy has expired"}
POOL = {"op": "failed", "kind": "rejected", "text": "no such accounting group"}
UNCLEAR = {"op": "failed", "kind": "uncertain", "text": "no answer"}
FULL = {"op": "failed", "kind": "full", "text": "no room"}


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([DONE, DONE], []),
        ([PROXY, PROXY, UNCLEAR, PROXY], [("trouble", PROXY["text"])]),
        ([PROXY, POOL], [("trouble", PROXY["text"]), ("trouble", POOL["text"])]),
        ([PROXY, DONE, DONE], [("trouble", PROXY["text"]), ("better", "")]),
        ([FULL, UNCLEAR, DONE], []),
    ],
)
async def test_each_reason_is_told_once(answers, told):
    left, heard = list(answers), []

    async def carry_out(message):
        return left.pop(0) if message["op"] == "submit" else POOL

    troubles = Troubles(carry_out, lambda event, text: heard.append((event, text)))
    for answer in answers:
        assert await troubles.answer({"op": "submit"}) is answer
        assert await troubles.answer({"op": "observe"}) is POOL
    assert heard == told
