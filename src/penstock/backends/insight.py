"""What a backend may offer besides the five verbs: numbers for watchers, and a check of the site.

Optional, because not every batch system has them: whoever asks looks with ``isinstance`` first.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Figure:
    """One sample of a Prometheus gauge: ``name`` as it is exposed, ``help`` for people."""

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Measured(Protocol):
    """A backend that can tell its batch system's own numbers, of everybody's jobs."""

    figures_period: float
    """Seconds between two measurements; the cost of one must stay far below."""

    async def figures(self) -> Sequence[Figure]:
        """Measure now, with a bounded number of commands. Raises Unavailable."""


@runtime_checkable
class Selective(Protocol):
    """A backend that cannot submit for every cluster at every time."""

    def refuses(self, cluster: str) -> str:
        """Why nothing can be submitted for a cluster now, for its user; empty when it can."""


class Verdict(str, enum.Enum):
    """How a finding of the doctor is meant."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``penstock doctor``: what was looked at, what was found, and what to do."""

    verdict: Verdict
    what: str
    found: str
    advice: str = ""


@runtime_checkable
class Examined(Protocol):
    """A backend that can examine its site.

    The job that the doctor submits on request is not its business: ``penstock.backends.probe`` runs
    one through the five verbs, the same for every backend.
    """

    def examine(self, owner: str | None = None) -> AsyncIterator[Finding]:
        """Look at version, reach, rights, limits and clock, and whether each of the backend's demands
        (``penstock.settings.demands``) could ever be met. ``owner``: the Unix user whose rights to
        look at, None for those of this process. Never raises: what fails is a finding."""
