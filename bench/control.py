"""The control plane under load: 1,000 clusters of 100 workers each, on the fake backend.

    python -m bench.control [--clusters 1000] [--workers 100] [--seconds 30] [--json FILE]

One process holds all of it: the real core with the real SQLite store, the fake batch system with
its 101,000 jobs, and one simulated agent a cluster that reports every 5 s over a channel. So CPU and
memory are upper bounds of the server's. Lists are asked for from another thread, so their times
include whatever the event loop was busy with.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import structlog

from penstock.api.clusters import cluster_json
from penstock.backends.base import Capabilities
from penstock.backends.fake import FakeBackend
from penstock.control import Control
from penstock.model.cluster import Cluster, ClusterSpec, GroupSpec, Limits, Status
from penstock.store import Store

PERIOD = 5.0
USERS = 50
LIST_EVERY = 0.02


@dataclass
class Agent:
    """A scheduler as the server hears it."""

    name: str
    sequence: int
    workers: int
    sent: list[Mapping[str, object]] = field(default_factory=list)

    def send(self, message: Mapping[str, object]) -> None:
        self.sent[:] = [message]

    def close(self) -> None:
        pass

    async def hello(self, control: Control, workers: int) -> None:
        await control.connected(
            self.name,
            {
                "op": "hello",
                "protocol": 1,
                "scheduler_address": "tls://10.0.0.5:8786",
                "dashboard_address": "http://10.0.0.5:8787",
                "versions": {"python": "3.12.1", "distributed": "2026.8.0"},
                "workers": [f"w{self.sequence}-{i}" for i in range(workers)],
            },
            self,
        )

    async def report(self, control: Control, added: int = 0) -> None:
        await control.message(
            self.name,
            self,
            {
                "op": "report",
                "added": [f"w{self.sequence}-{i}" for i in range(added)],
                "removed": [],
                "workers": self.workers,
                "threads": self.workers,
                "clients": 1,
                "tasks": {"processing": random.randrange(100), "queued": 0, "waiting": 9},
                "memory": random.randrange(2**40),
                "memory_limit": 2**40,
                "cpu": random.random() * 100 * self.workers,
                "scheduler": {"cpu": 5.0, "memory": 2**27},
                "idle": 0.0,
                "target": None,
            },
        )


class Bench:
    """The parts, and what was measured of them."""

    def __init__(self, clusters: int, workers: int, seconds: float, url: str) -> None:
        self.clusters = clusters
        self.workers = workers
        self.seconds = seconds
        self.url = url
        self.backend = FakeBackend(capabilities=Capabilities(visibility=2.0, period=PERIOD))
        self.agents: list[Agent] = []
        self.results: dict[str, float] = {}

    def control(self, store: Store) -> Control:
        backends = {"fake": self.backend}
        return Control(store, backends, servers=["http://127.0.0.1"], agent_source=b"")

    async def run(self) -> None:
        store = await Store.open(self.url)
        control = self.control(store)
        await control.start()
        await self.timed("create and fill (s)", lambda: self.fill(control))
        await asyncio.sleep(2 * PERIOD)
        await self.steady(control)
        await control.aclose()
        await store.close()
        await self.restart()

    async def timed(self, what: str, work: Callable[[], Awaitable[object]]) -> None:
        began = time.perf_counter()
        await work()
        self.results[what] = time.perf_counter() - began

    async def fill(self, control: Control) -> None:
        """Create all clusters, let them run, and give each its workers."""
        group = GroupSpec(backend="fake", python="python3")
        spec = ClusterSpec("bench", group, {"default": group}, Limits(max_workers=1000))

        async def one(number: int) -> None:
            user = f"user{number % USERS}"
            cluster = await control.create(user=user, owner=user, spec=spec, options={"n": 1})
            agent = Agent(cluster.name, 1, self.workers)
            self.agents.append(agent)
            await agent.hello(control, 0)
            await control.scale(cluster.name, self.workers)

        await asyncio.gather(*(one(number) for number in range(self.clusters)))
        whole = self.clusters * (self.workers + 1)
        while len(self.backend.alive()) < whole:  # noqa: ASYNC110 - the fake tells nobody
            await asyncio.sleep(0.2)
        for agent in self.agents:
            await agent.report(control, added=self.workers)

    async def steady(self, control: Control) -> None:
        """Reports, looks and lists, for a while."""
        lists = Lists(control)
        reporting = asyncio.ensure_future(self.reporting(control))
        cpu, began = time.process_time(), time.perf_counter()
        waiting = asyncio.get_running_loop().run_in_executor(None, lists.ask, self.seconds)
        await waiting
        used = time.process_time() - cpu
        reporting.cancel()
        self.results["CPU (cores)"] = used / (time.perf_counter() - began)
        self.results["memory (MiB)"] = psutil.Process().memory_info().rss / 2**20
        for what, times in lists.times.items():
            centiles = statistics.quantiles(times, n=100)
            self.results[f"list {what} p50 (ms)"] = centiles[49] * 1e3
            self.results[f"list {what} p99 (ms)"] = centiles[98] * 1e3

    async def reporting(self, control: Control) -> None:
        """Every agent once a period, evenly spread."""
        slices = 100
        while True:
            began = time.perf_counter()
            for part in range(slices):
                for agent in self.agents[part::slices]:
                    await agent.report(control)
                rest = began + (part + 1) * PERIOD / slices - time.perf_counter()
                await asyncio.sleep(max(0.0, rest))

    async def restart(self) -> None:
        """From an empty process state to: all listed, all linked, looked at and reconciled."""
        began = time.perf_counter()
        store = await Store.open(self.url)
        control = self.control(store)
        await control.start()
        self.results["restart until listed (s)"] = time.perf_counter() - began
        assert len(control.list()) == self.clusters
        for agent in self.agents:
            await agent.hello(control, self.workers)
        await control.ready()
        self.results["restart until full service (s)"] = time.perf_counter() - began
        submitted = len(self.backend.submitted)
        await asyncio.sleep(2 * PERIOD)
        assert len(self.backend.submitted) == submitted, "a restart submits nothing"
        await control.aclose()
        await store.close()


class Lists:
    """Asks for lists from another thread, as a client would from another process."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.loop = asyncio.get_running_loop()
        self.times: dict[str, list[float]] = {"one user": [], "all": []}

    def ask(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for what, user in (("one user", "user7"), ("all", None)):
                began = time.perf_counter()
                asyncio.run_coroutine_threadsafe(self.render(user), self.loop).result()
                self.times[what].append(time.perf_counter() - began)
                threading.Event().wait(LIST_EVERY)

    async def render(self, user: str | None) -> str:
        found: list[Cluster] = self.control.list(user=user, statuses=(Status.RUNNING,))
        shown: dict[str, Any] = {c.name: cluster_json(c, None, secrets=True) for c in found}
        return json.dumps(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{directory}/penstock.db"
        bench = Bench(args.clusters, args.workers, args.seconds, url)
        asyncio.run(bench.run())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    bench.results["memory, peak (MiB)"] = peak
    print(f"{args.clusters} clusters of {args.workers} workers, {os.cpu_count()} cores")
    for what, value in bench.results.items():
        print(f"  {what:32} {value:8.2f}")
    if args.json:
        args.json.write_text(json.dumps(bench.results, indent=2))


if __name__ == "__main__":
    main()
