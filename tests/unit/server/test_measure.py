"""Numbers of batch systems: measured beside the scrapes, with their age, and not for ever."""

from __future__ import annotations

from penstock.backends.insight import Figure
from penstock.model.errors import Unavailable
from penstock.server.measure import KEPT, Measurements


class Measurable:
    figures_period = 60.0

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def figures(self):
        if self.error is not None:
            raise self.error
        return [Figure("penstock_x_jobs", "Jobs.", 3.0, {"user": "ada"})]


class Off(Measurable):
    figures_period = 0.0


async def test_the_last_numbers_are_shown_with_their_age_until_they_are_too_old():
    now = 0.0
    system = Measurable()
    measurements = Measurements({"a": system, "off": Off(), "plain": object()}, lambda: now)
    [before] = measurements.latest()
    assert (before.backend, before.age, before.failures, before.samples) == ("a", None, 0, ())
    await measurements.measure("a")
    now = 7.0
    [fresh] = measurements.latest()
    assert (fresh.age, fresh.failures, len(fresh.samples)) == (7.0, 0, 1)
    for error in (Unavailable("Slurm is away"), RuntimeError("a mistake of ours")):
        system.error = error
        await measurements.measure("a")
    [stale] = measurements.latest()
    assert (stale.age, stale.failures, len(stale.samples)) == (7.0, 2, 1)
    now = KEPT * 60.0 + 1
    [old] = measurements.latest()
    assert (old.age, old.failures, old.samples) == (now, 2, ())
