"""A scheduler's job: starts it, reports it to the server, and does what the server says."""

import contextlib
import time
from typing import Any, Optional, Set

from penstock.agent.base import PROTOCOL, Failed, Message, python_name
from penstock.agent.channel import Channel
from penstock.agent.child import (
    CLOSE_TIME,
    address_towards,
    bounded,
    bracketed,
    describe,
    logger,
    on_termination,
    security,
    versions,
)
from penstock.agent.links import host_setting, in_use, port_pairs
from penstock.agent.logs import send_output
from penstock.agent.matching import Matching, own_kind
from penstock.agent.observe import (
    attach_dashboard,
    explain_strangers,
    is_busy,
    make_plugin,
    task_counts,
    user_clients,
)
from penstock.agent.retirement import Retirement
from penstock.agent.rules import (
    Bounds,
    Hysteresis,
    IdleClock,
    fit,
    in_workers,
    number,
    parse_adapt,
    parse_retire,
)

REPORT_GAP = 0.5  # least seconds between two reports


async def run_scheduler(config: Message) -> int:
    """A scheduler and its agent, from start to end; the exit code."""
    host = host_setting(config["contact_host"]) or address_towards(config["servers"])
    scheduler = await started_scheduler(config, host)
    explain_strangers(scheduler)
    return await SchedulerAgent(config, scheduler, host).run()


async def started_scheduler(config: Message, host: str) -> Any:
    """A scheduler that listens, at ports of the configured range. Raises Failed without a free one."""
    from distributed import Scheduler

    for port, dashboard in port_pairs(config["ports"]):
        try:
            return await Scheduler(
                host=host,
                port=port,
                protocol="tls",
                security=security(config),
                dashboard=False,
                dashboard_address="%s:%d" % (bracketed(host), dashboard),
            )
        except Exception as error:
            if not config["ports"] or not in_use(error):
                raise
    raise Failed("found no free port from %d to %d at %s" % (*config["ports"], host))


class SchedulerAgent:
    """Reports a scheduler to the server and does what the server says."""

    def __init__(self, config: Message, scheduler: Any, host: str) -> None:
        import asyncio

        import psutil

        self.config = config
        self.scheduler = scheduler
        self.host = host
        self.period = 5.0
        self.bounds = Bounds(False, 0, None)
        self.hysteresis: Optional[Hysteresis] = None
        self.target: Optional[int] = None
        self.idle = IdleClock(time.monotonic())
        self.idle_seconds = 0.0
        self.clients_seen = 0
        self.last_word = "closing"
        self.told: Set[str] = set()
        self.tasks: Set[Any] = set()
        self.process = psutil.Process()
        self.changed = asyncio.Event()
        self.ended = asyncio.get_event_loop().create_future()
        self.versions = versions()
        self.matching = Matching(scheduler, own_kind())
        self.channel = Channel(config, self.hello, self.receive)
        self.retirement = Retirement(scheduler, self.channel.send, self.spawn)
        self.log = logger()

    async def run(self) -> int:
        """Serve until the end, whoever wants it, and close everything."""
        on_termination(self.told_to_end)
        self.scheduler.add_plugin(make_plugin(self.changed.set, self.client_came))
        self.spawn(self.channel.run())
        self.spawn(self.tick_forever())
        self.spawn(self.report_forever())
        self.spawn(self.watch_scheduler())
        if self.has_dashboard:
            self.spawn(attach_dashboard(self.scheduler))
        elif self.config["dashboard"]:
            self.log.warning("no dashboard: there is no bokeh in %s", python_name())
        reason = await self.ended
        self.log.info("closing: %s", reason)
        self.channel.send({"op": self.last_word, "reason": reason})
        await bounded(self.scheduler.close(), CLOSE_TIME, "the scheduler did not close by itself")
        if self.channel.socket is not None:
            self.channel.socket.close()
        return 0

    def spawn(self, coroutine: Any) -> None:
        """Run a coroutine beside; the loop itself keeps only weak references."""
        import asyncio

        task = asyncio.ensure_future(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def end(self, reason: str) -> None:
        """Begin to end; the first reason counts."""
        if not self.ended.done():
            self.ended.set_result(reason)

    def told_to_end(self, reason: str) -> None:
        """Begin to end because the job must; why it must, its batch system knows."""
        if not self.ended.done():
            self.last_word = "terminated"
        self.end(reason)

    def client_came(self) -> None:
        """Count connections, for the idle clock."""
        self.clients_seen += 1

    @property
    def has_dashboard(self) -> bool:
        """Whether the dashboard is wanted and can be had."""
        return bool(self.config["dashboard"]) and "bokeh" in self.versions

    async def watch_scheduler(self) -> None:
        """Notice that the scheduler closed by itself (``client.shutdown()`` does that)."""
        await self.scheduler.finished()
        self.end("the scheduler was shut down by a client")

    # up

    def names(self) -> Set[str]:
        """The workers that the scheduler has now."""
        return {str(ws.name)[:200] for ws in self.scheduler.workers.values()}

    def hello(self) -> Message:
        """The first message on every connection; those that follow tell differences to it."""
        names = fit(self.names())
        self.told = set(names)
        self.changed.set()
        address = "http://%s:%d" % (bracketed(self.host), self.scheduler.http_server.port)
        return {
            "op": "hello",
            "protocol": PROTOCOL,
            "sequence": self.config["sequence"],
            "scheduler_address": self.scheduler.address,
            "dashboard_address": address if self.has_dashboard else None,
            "versions": self.versions,
            "workers": names,
        }

    def report(self) -> Message:
        """How things stand, and which workers came and went since the last report."""
        now = self.names()
        added, removed = fit(now - self.told), fit(self.told - now)
        self.told = (self.told | set(added)) - set(removed)
        states = list(self.scheduler.workers.values())
        return {
            "op": "report",
            "added": added,
            "removed": removed,
            "workers": len(states),
            "threads": sum(ws.nthreads for ws in states),
            "clients": len(user_clients(self.scheduler)),
            "tasks": task_counts(self.scheduler),
            "memory": int(sum(number(ws.metrics.get("memory")) for ws in states)),
            "memory_limit": int(sum(number(ws.memory_limit) for ws in states)),
            "cpu": round(sum(number(ws.metrics.get("cpu")) for ws in states), 1),
            "scheduler": {
                "cpu": self.process.cpu_percent(),
                "memory": self.process.memory_info().rss,
            },
            "idle": round(self.idle_seconds, 1),
            "target": self.target,
            "mismatch": self.matching.report(),
        }

    async def report_forever(self) -> None:
        """Report every period and soon after changes, never faster than the network takes it."""
        import asyncio

        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.changed.wait(), self.period)
            self.changed.clear()
            if self.channel.clear:
                try:
                    self.channel.send(self.report())
                except Exception as error:
                    self.log.warning("no report this time: %s", describe(error))
            await asyncio.sleep(REPORT_GAP)

    async def tick_forever(self) -> None:
        """Once a second: the idle clock, the adaptive target, and whether to give up."""
        import asyncio

        while True:
            try:
                self.tick(time.monotonic())
            except Exception as error:
                self.log.warning("a look at the scheduler failed: %s", describe(error))
            await asyncio.sleep(1.0)

    def tick(self, now: float) -> None:
        """One look."""
        counters = (self.scheduler.transition_counter, self.clients_seen)
        self.idle_seconds = self.idle.update(now, is_busy(self.scheduler), counters)
        self.adapt()
        self.matching.look(user_clients(self.scheduler))
        hopeless = self.channel.hopeless(now)
        if hopeless:
            self.end(hopeless)

    def adapt(self) -> None:
        """Sample the scheduler's own wish for workers; a changed target is reported at once."""
        target = None
        if self.hysteresis is not None:
            wish = int(self.scheduler.adaptive_target())
            wish = in_workers(wish, len(self.scheduler.workers), self.config["nthreads"])
            target = self.bounds.clamp(self.hysteresis.update(self.bounds.clamp(wish)))
        if target != self.target:
            self.target = target
            self.changed.set()

    # down

    def receive(self, message: Message) -> None:
        """Obey one message of the server; unknown ones are for newer agents."""
        op = message.get("op")
        if op == "welcome":
            period = number(message.get("period"))
            self.period = min(300.0, max(REPORT_GAP, period)) if period > 0 else 5.0
            self.set_bounds(parse_adapt(message.get("adapt")))
        elif op == "adapt":
            self.set_bounds(parse_adapt(message))
        elif op == "retire":
            self.retirement.answer(parse_retire(message))
        elif op == "output":
            self.spawn(send_output(self.scheduler, message, self.channel.send))
        elif op == "close":
            self.end(str(message.get("reason") or "the server asked for it")[:1000])

    def set_bounds(self, bounds: Optional[Bounds]) -> None:
        """Take new bounds; a wish starts from the workers that are there."""
        if bounds is None:
            return
        if not bounds.active:
            self.hysteresis = None
        elif self.hysteresis is None:
            self.hysteresis = Hysteresis(len(self.scheduler.workers))
        self.bounds = bounds
        self.adapt()
