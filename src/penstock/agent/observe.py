"""What is read from a ``distributed.Scheduler``, of whatever version from 2022.1 on, and cheaply."""

from typing import Any, Callable, Dict, List

from penstock.agent.child import describe, logger

TASK_STATES = {
    "processing": "processing",
    "queued": "queued",
    "no-worker": "unrunnable",
    "waiting": "waiting",
    "memory": "memory",
    "erred": "erred",
}


def task_counts(scheduler: Any) -> Dict[str, int]:
    """Tasks by state, from the counters that the scheduler keeps by prefix: no look at tasks."""
    counts = dict.fromkeys(TASK_STATES.values(), 0)
    for prefix in scheduler.task_prefixes.values():
        for state, count in prefix.states.items():
            if state in TASK_STATES:
                counts[TASK_STATES[state]] += count
    return counts


def is_busy(scheduler: Any) -> bool:
    """True while there is work at hand. Waiting tasks need no look: they wait for such work.

    ``queued`` came with distributed 2022.9, ``_active_graph_updates`` with 2025.
    """
    return bool(
        getattr(scheduler, "queued", ())
        or scheduler.unrunnable
        or getattr(scheduler, "_active_graph_updates", 0)
        or any(ws.processing for ws in scheduler.workers.values())
    )


def user_clients(scheduler: Any) -> List[str]:
    """Clients that stand for a user: neither the scheduler's own nor those inside of tasks."""
    return [
        key
        for key in scheduler.clients
        if key != "fire-and-forget" and not str(key).startswith("Client-worker-")
    ]


def make_plugin(changed: Callable[[], None], client_came: Callable[[], None]) -> Any:
    """A plugin of the scheduler that says when workers or clients come and go."""
    from distributed.diagnostics.plugin import SchedulerPlugin

    class Watch(SchedulerPlugin):  # type: ignore[misc, unused-ignore]
        name = "penstock"

        def add_worker(self, *args: Any, **kwargs: Any) -> None:
            changed()

        def remove_worker(self, *args: Any, **kwargs: Any) -> None:
            changed()

        def add_client(self, *args: Any, **kwargs: Any) -> None:
            client_came()
            changed()

        def remove_client(self, *args: Any, **kwargs: Any) -> None:
            changed()

    return Watch()


async def attach_dashboard(scheduler: Any) -> None:
    """Add the Bokeh pages to the scheduler's HTTP server. The import takes as long as the rest of
    the start, so it happens in a thread while the scheduler already serves."""
    import asyncio
    import importlib

    loop = asyncio.get_event_loop()
    try:
        pages = await loop.run_in_executor(
            None, importlib.import_module, "distributed.dashboard.scheduler"
        )
        pages.connect(scheduler.http_application, scheduler.http_server, scheduler, prefix="/")
    except Exception as error:  # a Bokeh that does not fit must not cost the cluster
        logger().warning("no dashboard pages: %s", describe(error))
