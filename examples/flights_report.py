"""What ``flights.py`` shows: progress, tables and the plot. Runs in the client, never in a worker."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from distributed import Client
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

console = Console(highlight=False)

HOUR, RAIN = 1, 4  # columns of the design matrix
SHOWN_ROUTES = 20


@dataclass
class Delays:
    """Departure delays; both tables have the columns flights, delay (min) and late (share)."""

    by_carrier: pd.DataFrame
    by_hour: pd.DataFrame  # index (carrier, hour)

    @property
    def shown(self) -> pd.DataFrame:
        """The carriers with at least 100 flights; a handful say nothing about an hour."""
        return self.by_carrier[self.by_carrier.flights >= 100]


@dataclass
class RouteFit:
    """The fit of one route. ``errors`` are one standard deviation."""

    route: str
    flights: int
    delay: float
    coefficients: NDArray[np.float64]
    errors: NDArray[np.float64]
    predicted: NDArray[np.float64]  # of the days that were held out
    observed: NDArray[np.float64]


@dataclass
class Calibration:
    """Held-out flights in ten bins of predicted delay: means, and the errors of the observed ones.

    The errors take flights as independent, so they are a little too small (storms are shared).
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    errors: NDArray[np.float64]
    explained: float  # share of the variance

    @classmethod
    def of(cls, fits: list[RouteFit]) -> Calibration:
        """All routes' held-out flights together."""
        predicted = np.concatenate([fit.predicted for fit in fits])
        observed = np.concatenate([fit.observed for fit in fits])
        bins = np.array_split(np.argsort(predicted), 10)
        return cls(
            np.array([predicted[part].mean() for part in bins]),
            np.array([observed[part].mean() for part in bins]),
            np.array([observed[part].std() / np.sqrt(len(part)) for part in bins]),
            float(1 - np.var(observed - predicted) / np.var(observed)),
        )


def say(text: str) -> None:
    """One line."""
    console.print(text)


def link(url: str) -> None:
    """A link alone on its line, never wrapped, so that it can be clicked and copied."""
    console.print(f"  {url}", soft_wrap=True, markup=False, style="cyan")


def waiting(what: str) -> AbstractContextManager[object]:
    """A spinner while something without a count goes on."""
    return console.status(f"{what} …")


def finish(what: str, items: Iterable[object], total: int) -> None:
    """Wait until all items have come, with a bar that counts them."""
    columns = (TextColumn(f"{what:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        for _ in bar.track(items, total=total):
            pass


def wait_for_workers(client: Client, wanted: int, patience: float = 120.0) -> None:
    """Show workers arriving; raises TimeoutError after ``patience`` seconds without all of them."""

    def arrivals() -> Iterator[int]:
        end = time.monotonic() + patience
        for seen in range(wanted):
            client.wait_for_workers(seen + 1, timeout=max(end - time.monotonic(), 0.1))
            yield seen

    finish("Workers", arrivals(), wanted)


def carriers(delays: Delays, airlines: pd.DataFrame, total: int) -> None:
    """The table of carriers with at least 100 flights, most flights first."""
    names = airlines.set_index("carrier").name
    known = delays.by_carrier.flights.sum()
    table = _table(
        f"{total:,} flights from New York in 2013 ({known:,} with delay and weather known)",
        ("carrier", "flights", "mean delay\n(min)", "late >\n15 min", "best hour", "worst hour"),
    )
    for row in delays.shown.sort_values("flights", ascending=False).itertuples():
        hours = delays.by_hour.loc[row.Index]
        hours = hours.delay[hours.flights >= 30]
        table.add_row(
            f"{row.Index} {names[row.Index].split(' Inc')[0].split(' Co')[0]}",
            f"{row.flights:,}",
            f"{row.delay:.1f}",
            f"{row.late:.0%}",
            f"{hours.idxmin()} h {hours.min():+5.1f}",
            f"{hours.idxmax()} h {hours.max():+5.1f}",
        )
    console.print(table)


def routes(fits: list[RouteFit]) -> None:
    """The ten routes whose delays grow most during the day, among those clear of zero by 5σ."""
    table = _table(
        f"{len(fits)} routes fitted; where delays grow most by the hour",
        ("route", "flights", "mean delay\n(min)", "growth\n(min per hour)", "rain\n(min per mm)"),
    )
    clear = [fit for fit in fits if fit.coefficients[HOUR] > 5 * fit.errors[HOUR]]
    for fit in sorted(clear, key=lambda fit: -fit.coefficients[HOUR])[:10]:
        table.add_row(
            fit.route,
            f"{fit.flights:,}",
            f"{fit.delay:.1f}",
            f"{fit.coefficients[HOUR]:.2f} ± {fit.errors[HOUR]:.2f}",
            f"{fit.coefficients[RAIN]:+.1f} ± {fit.errors[RAIN]:.1f}",
        )
    console.print(table)


def _table(title: str, columns: Iterable[str]) -> Table:
    """A table whose first column is text and whose others are numbers; fits 80 characters."""
    table = Table(
        title=f"\n{title}",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    return table


def plot(delays: Delays, fits: list[RouteFit], calibration: Calibration, path: Path) -> None:
    """Three panels: what was measured, what was fitted, and how well the fit predicts."""
    mpl.use("agg")
    with plt.rc_context({"font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left"}):
        figure, axes = plt.subplots(
            1, 3, figsize=(14, 5), width_ratios=(1.35, 1, 1), layout="constrained"
        )
        _plot_hours(axes[0], delays)
        _plot_growth(axes[1], fits[:SHOWN_ROUTES])
        _plot_calibration(axes[2], calibration)
        figure.savefig(path, dpi=150)
        plt.close(figure)
    say("Plot written:")
    link(str(path.resolve()))


def _plot_hours(axes: Axes, delays: Delays) -> None:
    """Mean delay by carrier and hour; hours with fewer than 30 flights stay empty."""
    enough = delays.by_hour[delays.by_hour.flights >= 30]
    order = delays.shown.sort_values("delay").index
    grid = enough.delay.unstack().reindex(order).reindex(columns=range(5, 24))
    colours = mpl.colormaps["viridis"].with_extremes(bad="0.92")
    image = axes.imshow(grid, aspect="auto", cmap=colours, vmin=0, vmax=40, origin="lower")
    axes.set_xticks(range(0, 19, 3), [f"{hour}" for hour in range(5, 24, 3)])
    axes.set_yticks(range(len(order)), list(order))
    axes.set(
        title="a  Mean departure delay",
        xlabel="scheduled hour of departure (local time)",
        ylabel="carrier, least delayed at the bottom",
    )
    axes.figure.colorbar(image, ax=axes, label="min", extend="both", pad=0.02)


def _plot_growth(axes: Axes, fits: list[RouteFit]) -> None:
    """The fitted growth of the delay over the day, for the routes with most flights."""
    ordered = sorted(fits, key=lambda fit: fit.coefficients[HOUR])
    growth = [fit.coefficients[HOUR] for fit in ordered]
    errors = [fit.errors[HOUR] for fit in ordered]
    axes.errorbar(growth, range(len(ordered)), xerr=errors, fmt="o", ms=4, capsize=2, color="C0")
    axes.axvline(0, color="0.6", lw=0.8)
    axes.set_yticks(range(len(ordered)), [fit.route for fit in ordered])
    axes.set(
        title=f"b  Growth over the day, {len(ordered)} busiest routes",
        xlabel="delay gained per hour of the day (min/h, ±1σ)",
    )
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)


def _plot_calibration(axes: Axes, calibration: Calibration) -> None:
    """Observed against predicted delay on the days that no fit has seen."""
    low = min(*calibration.predicted, *calibration.observed) - 2
    high = max(*calibration.predicted, *calibration.observed) + 4
    axes.plot([low, high], [low, high], color="0.6", lw=0.8, label="perfect prediction")
    axes.errorbar(
        calibration.predicted,
        calibration.observed,
        yerr=calibration.errors,
        fmt="o",
        ms=4,
        capsize=2,
        color="C3",
        label="tenths of the held-out flights",
    )
    axes.set(
        title=f"c  Days held out: {calibration.explained:.0%} of the variance explained",
        xlabel="predicted delay (min)",
        ylabel="observed mean delay (min)",
        xlim=(low, high),
        ylim=(low, high),
        aspect="equal",
    )
    axes.legend(frameon=False, loc="upper left")
