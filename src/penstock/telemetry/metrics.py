"""Numbers for Prometheus: what runs, for whom, and how the gateway itself fares.

Nothing is counted while the gateway works: a scrape reads what is in memory anyway, so a thousand
clusters cost a scrape some milliseconds and nothing else. Names that schedulers make up never
become labels; a hostile one cannot make the series many.

``dask_scheduler_workers`` and ``dask_scheduler_clients`` are the names of ``distributed``'s own
exporter (``distributed/http/scheduler/prometheus/core.py``), so that dashboards made for scraping
every scheduler work with this one address instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

STATES = ("processing", "queued", "unrunnable", "waiting", "memory", "erred")
"""Of tasks, as schedulers report them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One cluster as its scheduler last described it. Memory in bytes, CPU in cores."""

    cluster: str
    user: str
    workers: int = 0
    clients: int = 0
    threads: int = 0
    worker_cpu: float = 0.0
    worker_memory: float = 0.0
    worker_memory_limit: float = 0.0
    scheduler_cpu: float = 0.0
    scheduler_memory: float = 0.0
    tasks: Mapping[str, int] = field(default_factory=dict)


class Sample(Protocol):
    """A ``penstock.backends.insight.Figure``, which stands in a room beside this one."""

    @property
    def name(self) -> str: ...
    @property
    def help(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def labels(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a batch system told of itself. ``age``: in seconds, None when it never has."""

    backend: str
    age: float | None
    failures: int
    samples: Sequence[Sample] = ()


@dataclass(frozen=True, slots=True)
class Numbers:
    """Everything that one scrape shows.

    ``clusters``: (status, user) of every cluster that is remembered. ``running``: those that
    report. ``lag``: the longest that the event loop kept anybody waiting lately, in seconds.
    ``measured``: the batch systems' own numbers.
    """

    version: str
    clusters: Iterable[tuple[str, str]] = ()
    running: Iterable[Seen] = ()
    door_restarts: int = 0
    lag: float = 0.0
    measured: Sequence[Measurement] = ()


_GAUGES = {
    "dask_scheduler_workers": ("workers", "Workers that the scheduler has."),
    "dask_scheduler_clients": ("clients", "Clients that are connected to the scheduler."),
    "penstock_worker_threads": ("threads", "Threads of all workers of a cluster."),
    "penstock_worker_cpu_cores": ("worker_cpu", "Cores that the workers of a cluster use now."),
    "penstock_worker_memory_bytes": ("worker_memory", "Memory that the workers use now."),
    "penstock_worker_memory_limit_bytes": ("worker_memory_limit", "Memory that they may use."),
    "penstock_scheduler_cpu_cores": ("scheduler_cpu", "Cores that the scheduler uses now."),
    "penstock_scheduler_memory_bytes": ("scheduler_memory", "Memory that the scheduler uses now."),
}


def render(numbers: Numbers) -> bytes:
    """The text that Prometheus reads. May run in any thread."""
    registry = CollectorRegistry()
    registry.register(_Numbers(numbers))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Numbers(Collector):
    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        numbers = self._numbers
        info = GaugeMetricFamily("penstock_info", "This gateway's version.", labels=["version"])
        info.add_metric([numbers.version], 1)
        yield info
        clusters = GaugeMetricFamily(
            "penstock_clusters",
            "Clusters by status; ended ones are those of the last day.",
            labels=["status", "user"],
        )
        for (status, user), count in sorted(Counter(numbers.clusters).items()):
            clusters.add_metric([status, user], count)
        yield clusters
        yield from _running(list(numbers.running))
        restarts = CounterMetricFamily(
            "penstock_door_restarts", "Doors that this server had to start anew."
        )
        restarts.add_metric([], numbers.door_restarts)
        yield restarts
        yield GaugeMetricFamily(
            "penstock_event_loop_lag_seconds",
            "The longest that the server kept a request waiting in the last minute.",
            value=numbers.lag,
        )
        yield from _measured(numbers.measured)


def _running(seen: list[Seen]) -> Iterator[Metric]:
    for name, (attribute, text) in _GAUGES.items():
        gauge = GaugeMetricFamily(name, text, labels=["cluster", "user"])
        for each in seen:
            gauge.add_metric([each.cluster, each.user], getattr(each, attribute))
        yield gauge
    tasks = GaugeMetricFamily(
        "penstock_tasks", "Tasks by state.", labels=["cluster", "user", "state"]
    )
    for each in seen:
        for state in STATES:
            tasks.add_metric([each.cluster, each.user, state], each.tasks.get(state, 0))
    yield tasks


def _measured(all_of: Sequence[Measurement]) -> Iterator[Metric]:
    """The batch systems' samples, each with its backend, and how far they can be trusted."""
    if not all_of:
        return
    ages = GaugeMetricFamily(
        "penstock_figures_age_seconds",
        "How old the batch system's own numbers are.",
        labels=["backend"],
    )
    failures = CounterMetricFamily(
        "penstock_figures_failures",
        "Times that the batch system did not tell its numbers.",
        labels=["backend"],
    )
    families: dict[str, GaugeMetricFamily] = {}
    for each in all_of:
        if each.age is not None:
            ages.add_metric([each.backend], each.age)
        failures.add_metric([each.backend], each.failures)
        for sample in each.samples:
            family = families.get(sample.name)
            if family is None:
                family = GaugeMetricFamily(
                    sample.name, sample.help, labels=["backend", *sorted(sample.labels)]
                )
                families[sample.name] = family
            values = [value for _, value in sorted(sample.labels.items())]
            family.add_metric([each.backend, *values], sample.value)
    yield ages
    yield failures
    yield from families.values()


class Lag:
    """The longest delay of late; ``window`` in samples."""

    def __init__(self, window: int = 60) -> None:
        self._samples: list[float] = []
        self._window = window

    def note(self, seconds: float) -> None:
        """One more sample."""
        self._samples = [*self._samples[1 - self._window :], max(0.0, seconds)]

    @property
    def worst(self) -> float:
        """The longest of the samples that are kept, in seconds."""
        return max(self._samples, default=0.0)
