"""Measures the batch systems that can tell their own numbers, each at its own pace.

Beside the scrapes and never in one: a batch system that hangs must not make Prometheus wait, and two
scrapers must not cost twice. A scrape shows what was measured last, and how old it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from penstock.backends.insight import Figure, Measured
from penstock.model.errors import BackendError
from penstock.telemetry.metrics import Measurement

KEPT = 5
"""Periods after which numbers that could not be renewed are shown no more."""

log = structlog.get_logger("penstock.server")


class Measurements:
    """The last numbers of each backend that has any."""

    def __init__(
        self, backends: Mapping[str, object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._backends = {
            name: backend
            for name, backend in backends.items()
            if isinstance(backend, Measured) and backend.figures_period > 0
        }
        self._clock = clock
        self._last: dict[str, tuple[float, Sequence[Figure]]] = {}
        self._failures = dict.fromkeys(self._backends, 0)
        self._silent: set[str] = set()

    async def run(self) -> None:
        """Measure until cancelled."""
        await asyncio.gather(*(self._repeat(name) for name in self._backends))

    async def _repeat(self, name: str) -> None:
        while True:
            await self.measure(name)
            await asyncio.sleep(self._backends[name].figures_period)

    async def measure(self, name: str) -> None:
        """One measurement; a failure is counted, and logged when the last one was none."""
        try:
            found = await self._backends[name].figures()
        except BackendError as error:
            self._failed(name, str(error))
        except Exception:  # a number that nobody can read must not end the others
            self._failed(name, "an error in Penstock itself", exc_info=True)
        else:
            self._last[name] = (self._clock(), found)
            self._silent.discard(name)

    def _failed(self, name: str, why: str, *, exc_info: bool = False) -> None:
        self._failures[name] += 1
        if name not in self._silent:
            log.warning("no numbers of a batch system", backend=name, error=why, exc_info=exc_info)
        self._silent.add(name)

    def latest(self) -> list[Measurement]:
        """What a scrape shows now."""
        now, found = self._clock(), []
        for name, backend in self._backends.items():
            at, figures = self._last.get(name, (None, ()))
            age = None if at is None else now - at
            old = age is not None and age > KEPT * backend.figures_period
            found.append(Measurement(name, age, self._failures[name], () if old else figures))
        return found
