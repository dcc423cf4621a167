"""``penstock stop``: end the server and its door; with ``--clusters`` first all clusters."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from penstock.api.relay import watch_notebooks
from penstock.cli.common import config_option, load_settings, state_directory, state_option
from penstock.control.tasks import end_tasks
from penstock.door.supervise import stop_door
from penstock.model.errors import PenstockError
from penstock.server.admin import ask
from penstock.server.embedded import remove_dask_config
from penstock.server.run import core
from penstock.server.state import State
from penstock.settings import Settings, embedded

DRAIN = 600.0
"""Seconds that all clusters have to end."""


@click.command()
@click.option("--clusters", is_flag=True, help="End all clusters first, and wait for that.")
@click.option("--keep-door", is_flag=True, help="Leave the front door, as systemd wants it.")
@config_option
@state_option
def stop(clusters: bool, keep_door: bool, config: Path | None, state: Path | None) -> None:
    """Stop the server; with --clusters everything.

    Without --clusters the clusters go on, and the next `penstock serve` finds them again.
    """
    try:
        asyncio.run(_stop(clusters, keep_door, config, state))
    except (PenstockError, OSError) as error:
        raise click.ClickException(str(error)) from None


async def _stop(clusters: bool, keep_door: bool, config: Path | None, state: Path | None) -> None:
    settings = load_settings(config, state) if config else None
    place = State(settings.server.state_dir if settings else state_directory(state))
    running = place.running_pid()
    if running is None and not place.database.exists():
        raise PenstockError(f"No Penstock has ever served from {place.directory}")
    if clusters:
        click.echo("Ending all clusters …")
        if running is not None:
            await ask(place.admin_socket, "POST", "drain", timeout=DRAIN)
        else:
            await _drain_alone(settings or embedded(place.directory), place)
    if running is not None:
        await ask(place.admin_socket, "POST", "quit", timeout=10)
        await _gone(place)
        click.echo(f"The server (process {running}) has ended")
    else:
        click.echo("No server was running")
    if not keep_door and await stop_door(str(place.door_socket)):
        click.echo("The front door has ended")
    written = place.dask_config()
    if written is not None:
        remove_dask_config(written)


async def _drain_alone(settings: Settings, place: State) -> None:
    """End all clusters of a server that is not running, in its place."""
    place.prepare()
    place.lock()
    try:
        async with core(settings, place) as (control, _):
            await control.start()
            watching = asyncio.ensure_future(watch_notebooks(control))
            try:
                await control.stop_all("the gateway was drained by its admin")
            finally:
                await end_tasks([watching])
                await control.aclose()
    finally:
        place.unlock()


async def _gone(place: State, seconds: float = 30.0) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while place.running_pid() is not None:
        if asyncio.get_running_loop().time() > deadline:
            raise PenstockError(f"The server did not end within {seconds:.0f} s; see its log")
        await asyncio.sleep(0.05)
