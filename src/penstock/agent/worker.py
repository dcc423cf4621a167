"""A worker's job: starts it, waits for its end, and says why it could not work."""

import os
import time
from typing import Any, List

from penstock.agent.base import Failed, Message, here, job_index, job_name
from penstock.agent.child import (
    CLOSE_TIME,
    bounded,
    describe,
    logger,
    on_termination,
    security,
    version_of,
    version_tuple,
)
from penstock.agent.links import host_setting, linked_worker, say_name

NANNY_START = 120.0  # seconds to spawn a worker process, import distributed and register

WORKER_START = 60.0  # the same where the process already runs


def make_nanny(failures: List[BaseException]) -> Any:
    """A Nanny that remembers why its worker process could not be (re)started: Dask only logs it."""
    from distributed import Nanny

    class ReportingNanny(Nanny):  # type: ignore[misc, unused-ignore]
        async def instantiate(self, *args: Any, **kwargs: Any) -> Any:
            try:
                status = await super().instantiate(*args, **kwargs)
            except Exception as error:
                failures.append(error)
                raise
            failures.clear()
            return status

    return ReportingNanny


def worker_options(config: Message) -> Message:
    """Keyword arguments for Nanny and Worker alike."""
    options: Message = {
        "scheduler_ip": config["scheduler_address"],
        "name": job_name(config, job_index()),
        "nthreads": config["nthreads"],
        "memory_limit": config["memory"],
        "security": security(config),
        "local_directory": here(),
        "death_timeout": min(NANNY_START if config["nanny"] else WORKER_START, config["give_up"]),
        "host": config["listen_host"] or host_setting(config["contact_host"]),
        "resources": config["resources"],
    }
    if config["ports"]:
        options["port"] = "%d:%d" % tuple(config["ports"])  # distributed takes the first free one
    if config["nanny"]:
        options["worker_port"] = options.get("port", 0)
        if config["scheduler_sni"] or config["listen_host"]:
            options["worker_class"] = linked_worker
    if config["lifetime"]:
        # From the start of the job, whose time is meant; an import may take a minute.
        spent = min(age(), config["lifetime"] / 2)
        options["lifetime"] = "%f s" % (config["lifetime"] - spent)
        options["lifetime_stagger"] = "%f s" % config["lifetime_stagger"]
        options["lifetime_restart"] = False
    if version_tuple(version_of("distributed") or "") < (2022, 6):
        options["reconnect"] = False  # later ones never do: a scheduler does not come back
    return options


def age() -> float:
    """Seconds since this job's agent began."""
    import psutil

    began: float = psutil.Process(os.getppid()).create_time()
    return max(0.0, time.time() - began)


def make_server(config: Message, failures: List[BaseException]) -> Any:
    """The Nanny or Worker of this job, not started yet."""
    if not config["nanny"]:
        return linked_worker(**worker_options(config))
    nanny = make_nanny(failures)(**worker_options(config))
    if config["scheduler_sni"]:
        # Its worker's process is sent the plain Security, and makes the same of it there.
        say_name(nanny.connection_args["ssl_context"], config["scheduler_sni"])
    return nanny


async def run_worker(config: Message) -> int:
    """A worker (or the nanny of one), from start to end; the exit code. Raises Failed."""
    import asyncio

    failures: List[BaseException] = []
    told = asyncio.get_event_loop().create_future()
    on_termination(lambda reason: None if told.done() else told.set_result(reason))
    server = make_server(config, failures)
    start = asyncio.ensure_future(started(server))
    await asyncio.wait({start, told}, return_when=asyncio.FIRST_COMPLETED)
    if not told.done():
        check_start(config, start, server, failures)
        over = asyncio.ensure_future(server.finished())
        await asyncio.wait({over, told}, return_when=asyncio.FIRST_COMPLETED)
    if told.done():
        logger().info("closing: %s", told.result())
        await leave(server, start)
    elif failures:
        raise Failed("the worker's process could not be restarted: %s" % describe(failures[-1]))
    else:
        logger().info("the scheduler closed this worker, or is gone")
    return 0


async def started(server: Any) -> None:
    """Start by ``await server``: in old versions only that obeys ``death_timeout``."""
    await server


def check_start(config: Message, start: Any, server: Any, failures: List[BaseException]) -> None:
    """Raises Failed when the worker did not come up."""
    error = start.exception()
    if error is None and not failures and server.status.name != "failed":
        return  # it may be closed again already, if its scheduler wished so
    cause = failures[-1] if failures else error
    words = describe(cause) if cause is not None else "it closed while starting"
    place = config["scheduler_address"]
    raise Failed("the worker could not join the scheduler at %s: %s" % (place, words))


async def leave(server: Any, start: Any) -> None:
    """End a worker that was told to: hand its data over first, while there is somebody to take it,
    and let its running tasks start again elsewhere without counting this as their fault."""
    if start.done() and not start.cancelled() and start.exception() is None:
        address = getattr(server, "worker_address", None) or server.address
        if hasattr(server, "close_gracefully") and hasattr(server, "process"):
            server.close_gracefully()  # the nanny's: do not restart the worker
        away = server.scheduler.retire_workers(workers=[address], close_workers=False, remove=True)
        await bounded(away, CLOSE_TIME / 2, "could not hand the data over")
    await bounded(server.close(), CLOSE_TIME, "the worker did not close by itself")
