"""What is read from a ``distributed.Scheduler``, of whatever version from 2022.1 on, and cheaply."""

from typing import Any, Callable, Dict, List

from penstock.agent.base import python_name
from penstock.agent.child import describe, logger, versions

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


def explain_strangers(scheduler: Any) -> None:
    """Clients of another version ask in ways that this scheduler does not know. ``identity`` is
    the first thing that they ask, so there they read what is wrong instead of a TypeError."""
    import functools
    import inspect

    identity = scheduler.handlers["identity"]

    @functools.wraps(identity)
    def explaining(*args: Any, **kwargs: Any) -> Any:
        try:
            inspect.signature(identity).bind(*args, **kwargs)
        except TypeError as error:
            raise RuntimeError(
                "This cluster runs distributed %s in %s, and your client is of a version that it "
                "does not understand (%s). Use one environment for both, e.g. with the option venv."
                % (versions()["distributed"], python_name(), error)
            ) from None
        return identity(*args, **kwargs)

    scheduler.handlers["identity"] = explaining


PAGES_TIME = 30.0  # seconds that a page's caller waits for the pages to be there


async def attach_dashboard(scheduler: Any) -> None:
    """Add the Bokeh pages to the scheduler's HTTP server. The import takes as long as the rest of
    the start, so it happens in a thread while the scheduler already serves; who asks meanwhile
    waits, because the link to the pages is out by then."""
    import asyncio
    import importlib

    loop = asyncio.get_event_loop()
    attached = asyncio.Event()
    room = waiting_room(attached)
    scheduler.http_application.add_application(room)
    try:
        pages = await loop.run_in_executor(
            None, importlib.import_module, "distributed.dashboard.scheduler"
        )
        pages.connect(scheduler.http_application, scheduler.http_server, scheduler, prefix="/")
    except Exception as error:  # a Bokeh that does not fit must not cost the cluster
        logger().warning("no dashboard pages: %s", describe(error))
    finally:
        scheduler.http_application.applications.remove(room)
        attached.set()


def waiting_room(attached: Any) -> Any:
    """An application that answers any page, once ``attached`` is set: ask again."""
    import asyncio
    import contextlib

    from tornado.web import Application, RequestHandler

    class Wait(RequestHandler):  # type: ignore[misc, unused-ignore]
        async def get(self) -> None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(attached.wait(), PAGES_TIME)
            self.redirect("/" + str(self.request.uri).lstrip("/"), status=307)

    return Application([("/.*", Wait)])
