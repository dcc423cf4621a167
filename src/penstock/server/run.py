"""One server process: put the rooms together, serve until told to end, leave jobs and door alone."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace

import structlog

from penstock import agent
from penstock.api.app import make_app
from penstock.api.relay import watch_notebooks
from penstock.api.services import Services
from penstock.auth import Signer
from penstock.auth.build import build_authenticator
from penstock.control import Control
from penstock.control.tasks import end_tasks
from penstock.door.config import DoorConfig
from penstock.door.process import raise_file_limit
from penstock.door.supervise import DoorKeeper, find_door, stop_door
from penstock.model.errors import PenstockError
from penstock.server.accept import Certificate, CertificateFiles
from penstock.server.admin import start_admin
from penstock.server.backends import make_backends
from penstock.server.front import Front
from penstock.server.measure import Measurements
from penstock.server.state import State
from penstock.settings import Settings
from penstock.store import Store

log = structlog.get_logger("penstock.server")

OnRoute = Callable[[str, tuple[str, int] | None], None]


async def serve(
    settings: Settings, state: State, ready: Callable[[], None], *, external_door: bool = False
) -> None:
    """Serve until SIGTERM, SIGINT or ``penstock stop``; ``ready`` is called once it takes requests.

    The state directory must be prepared and locked. ``external_door``: systemd starts the door.
    Raises PenstockError (a port in use, a database of a newer version, a backend that cannot be)
    before anything is served.
    """
    raise_file_limit()
    leave, served = _told_to_leave(), asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        if not external_door and await find_door(str(state.door_socket)) is None:
            stack.push_async_callback(_withdraw, state, served)
        keeper = DoorKeeper(door_config(settings, state), external=external_door)
        bound = (await keeper.start()).bound
        front = Front(str(state.door_socket))
        parts = await stack.enter_async_context(core(settings, state, front.publish))
        control = parts[0]
        services = await _services(settings, state, parts, bound, leave)
        measurements = Measurements(control.backends)
        services = replace(
            services, door_restarts=lambda: keeper.restarts, measured=measurements.latest
        )
        app = make_app(services)
        await stack.enter_async_context(front.serving(app, _certificates(settings)))
        await control.start()
        stack.push_async_callback(control.aclose)
        await stack.enter_async_context(_running(watch_notebooks(control)))
        admin = await start_admin(state.admin_socket, control, leave)
        stack.push_async_callback(admin.cleanup)
        await stack.enter_async_context(_running(measurements.run()))
        await stack.enter_async_context(_running(front.link.run()))
        await stack.enter_async_context(_running(keeper.run()))
        ready()
        served.set()
        await leave.wait()
        log.info("the server ends; clusters and connections live on")


def _told_to_leave() -> asyncio.Event:
    """Set by the signals that end a server."""
    leave = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, leave.set)
    return leave


async def _withdraw(state: State, served: asyncio.Event) -> None:
    """End a door that was started for a server that never served: callers would wait in vain."""
    if not served.is_set():
        await stop_door(str(state.door_socket))


@contextlib.asynccontextmanager
async def core(
    settings: Settings, state: State, on_route: OnRoute = lambda name, address: None
) -> AsyncIterator[tuple[Control, Store]]:
    """Store, backends and control without any listener; ``penstock stop`` drains with the same."""
    async with contextlib.AsyncExitStack() as stack:
        store = await Store.open(settings.database_url)
        stack.push_async_callback(store.close)
        backends = make_backends(settings, await store.gateway_id(), state)
        for backend in backends.values():
            stack.push_async_callback(backend.aclose)
        yield (
            Control(
                store,
                backends,
                servers=settings.agent_urls,
                agent_source=agent.source(),
                ca=_ca(settings),
                door=settings.door_address,
                on_route=on_route,
                retention=settings.server.history,
                tails=state.directory / "tails",
            ),
            store,
        )


def door_config(settings: Settings, state: State) -> DoorConfig:
    """The door of this configuration and state directory."""
    places = []
    for listen in settings.listen:
        places.append(listen.endpoint)
        if listen.scheduler_endpoint is not None:
            places.append(listen.scheduler_endpoint)
    return replace(
        DoorConfig.in_state(state.directory, tuple(places)),
        per_address=settings.door.per_address,
        sniff_seconds=settings.door.sniff_timeout,
        pending_limit=settings.door.pending,
        pending_seconds=settings.door.pending_timeout,
        connect_seconds=settings.door.connect_timeout,
    )


async def _services(
    settings: Settings,
    state: State,
    parts: tuple[Control, Store],
    bound: tuple[tuple[str, int], ...],
    leave: asyncio.Event,
) -> Services:
    control, store = parts
    return Services(
        settings=settings,
        control=control,
        authenticator=build_authenticator(settings.auth, state.password),
        signer=Signer(await store.secret("signing")),
        own_ports=frozenset(port for _, port in bound),
        listeners={listen.endpoint[1]: at for at, listen in enumerate(settings.listen)},
        leaving=leave,
    )


def _certificates(settings: Settings) -> dict[int, Certificate]:
    found = {}
    for listen in settings.listen:
        if listen.tls_cert is None or listen.tls_key is None:
            continue
        try:
            certificate = Certificate(CertificateFiles(listen.tls_cert, listen.tls_key))
        except OSError as error:  # ssl.SSLError is one
            raise PenstockError(
                f"The certificate {listen.tls_cert} of {listen.address} cannot be used: {error}"
            ) from None
        found[listen.endpoint[1]] = certificate
    return found


def _ca(settings: Settings) -> str | None:
    if settings.server.ca_file is None:
        return None
    try:
        return settings.server.ca_file.read_text()
    except OSError as error:
        raise PenstockError(
            f"server.ca_file {settings.server.ca_file} cannot be read: {error.strerror}"
        ) from None


@contextlib.asynccontextmanager
async def _running(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run something beside until the end of the block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await end_tasks([task])
        with contextlib.suppress(asyncio.CancelledError):
            await task
