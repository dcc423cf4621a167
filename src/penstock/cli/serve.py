"""``penstock serve``: with a configuration for a facility, without one for yourself."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

import click

from penstock.cli.common import config_option, load_settings, state_directory, state_option
from penstock.door.supervise import find_door
from penstock.model.errors import PenstockError
from penstock.server.embedded import (
    choose_address,
    dask_config_file,
    free_address,
    write_dask_config,
)
from penstock.server.run import serve as run_server
from penstock.server.state import State
from penstock.settings import Settings, embedded
from penstock.settings.auth import this_user
from penstock.telemetry.logs import configure


@dataclass(frozen=True)
class Plan:
    """What to serve, and what to tell the user's Dask about it (single-user mode only)."""

    settings: Settings
    state: State
    dask_config: Path | None


@click.command()
@config_option
@state_option
@click.option("--listen", help="host:port, instead of what is configured; single-user mode only.")
@click.option(
    "--dask-config",
    type=click.Path(path_type=Path),
    help="Single-user mode: the file that tells Dask of this gateway.",
)
@click.option("--external-door", is_flag=True, help="Somebody else runs `penstock door`.")
def serve(
    config: Path | None,
    state: Path | None,
    listen: str | None,
    dask_config: Path | None,
    external_door: bool,
) -> None:
    """Start the gateway's server.

    Without --config it serves you alone: afterwards `dask_gateway.Gateway()` works in all your
    notebooks. Clusters outlive the server; `penstock stop --clusters` ends everything.
    """
    try:
        plan = _plan(config, state, listen, dask_config)
        configure(plan.settings.server.log_level, plan.settings.server.log_format)
        asyncio.run(_serve(plan, external_door))
    except (PenstockError, OSError) as error:
        raise click.ClickException(str(error)) from None


def _plan(
    config: Path | None, state: Path | None, listen: str | None, dask_config: Path | None
) -> Plan:
    if config is not None:
        if listen is not None or dask_config is not None:
            raise click.UsageError("--listen and --dask-config are for serving without --config")
        settings = load_settings(config, state)
        found = State(settings.server.state_dir)
        found.prepare()
        found.lock()
        return Plan(settings, found, None)
    found = State(state_directory(state))
    found.prepare()
    found.lock()
    if listen is None:
        door = asyncio.run(find_door(str(found.door_socket)))
        host, port = choose_address(found, door_is_there=door is not None)
        listen = f"{host}:{port}"
    elif listen.endswith(":0"):
        listen = free_address(listen)
    settings = embedded(found.directory, address=listen)
    return Plan(settings, found, dask_config or dask_config_file(os.environ))


async def _serve(plan: Plan, external_door: bool) -> None:
    def ready() -> None:
        urls = ", ".join(listen.url for listen in plan.settings.listen)
        if plan.dask_config is None:
            click.echo(f"Penstock serves at {urls}")
            return
        user = this_user()
        write_dask_config(
            plan.dask_config,
            address=plan.settings.listen[0].url,
            user=user,
            password=plan.state.password(),
        )
        plan.state.remember_dask_config(plan.dask_config)
        click.echo(f"Penstock serves {user} at {urls}")
        click.echo("In a notebook:  from dask_gateway import Gateway; Gateway().new_cluster()")

    await run_server(plan.settings, plan.state, ready, external_door=external_door)
    if plan.dask_config is not None:
        click.echo("Clusters and open connections go on; `penstock stop --clusters` ends them.")
