"""Which tests share a process when the suite runs in several at once.

Real batch systems are started once a session, and a session is a process: so all tests of one batch
system stay together. They take longest and mostly wait, so they begin, and the others fill up.
"""

from __future__ import annotations

import re

import pytest
from xdist.scheduler import LoadScopeScheduling

_BIG = {
    "htcondor": ("e2e/htcondor/", "e2e/hybrid/", "e2e/notebook/"),
    "slurm": ("e2e/slurm/",),
}

_NEWER = "newer slurm"
_OF_NEWER = re.compile(r"\[(?:.*-)?newe(?:r|st)\b")


def lane(nodeid: str) -> str:
    """The name of a test's group: of its batch system, or of its file."""
    if _OF_NEWER.search(nodeid):
        return _NEWER
    for name, places in _BIG.items():
        if any(place in nodeid for place in places) or ("contract/" in nodeid and name in nodeid):
            return name
    return nodeid.partition("::")[0]


def in_order(items: list[pytest.Item]) -> None:
    """Sort the tests of a session, those of batch systems first."""
    first = {name: number for number, name in enumerate([*_BIG, _NEWER])}
    items.sort(key=lambda item: first.get(lane(item.nodeid), len(first)))


class Lanes(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out whole lanes; the plugin's own groups do nothing with pytest 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        return lane(nodeid)
