"""``penstock list|show|logs|end``: a user's clusters from a shell, over the REST API."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock.client import Gateway

_address = click.option("--address", help="The gateway's URL; else from the Dask configuration.")
_name = click.argument("cluster")
_ALL = ["pending", "running", "stopping", "stopped", "failed"]


@contextlib.contextmanager
def _gateway(address: str | None) -> Iterator[Any]:
    """A connected gateway; what goes wrong is told in one line instead of a traceback."""
    try:
        with Gateway(address=address) as gateway:
            yield gateway
    except click.ClickException:
        raise
    except Exception as error:
        raise click.ClickException(str(error) or type(error).__name__) from None


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000).strftime("%Y-%m-%d %H:%M:%S")


@click.command(name="list")
@_address
@click.option("--all", "everything", is_flag=True, help="Ended clusters too.")
def list(address: str | None, everything: bool) -> None:
    """List your clusters."""
    table = Table("cluster", "status", "since", "options", box=None)
    with _gateway(address) as gateway:
        for report in gateway.list_clusters(status=_ALL if everything else None):
            options = ", ".join(f"{key}={value}" for key, value in report.options.items() if value)
            since = report.start_time.strftime("%Y-%m-%d %H:%M")
            table.add_row(report.name, report.status.name.lower(), since, Text(options))
    Console().print(table)


@click.command()
@_name
@_address
def show(cluster: str, address: str | None) -> None:
    """Show a cluster, its workers and what happened."""
    console = Console(highlight=False, soft_wrap=True)
    with _gateway(address) as gateway:
        live = gateway.live(cluster)
        events = gateway.events(cluster)
    console.print(f"{live['name']}  {live['status'].lower()}  profile {live['profile']}")
    if live["reason"]:
        console.print(Text(live["reason"]))
    for group, wish in live["scaling"].items():
        how = f"adaptive {wish['minimum']}–{wish['maximum']}" if wish["adaptive"] else "fixed"
        console.print(f"group {group}: {wish['count']} workers wanted ({how})", markup=False)
    report = live["report"] or {}
    if report:
        console.print(
            f"{report['workers']} workers, {report['clients']} clients, {report['tasks']}"
        )
    for event in events:
        console.print(Text(f"{_moment(event['time'])}  {event['text']}"))


@click.command()
@_name
@click.argument("job", default="s0-0")
@click.option("--tail", default=65536, show_default=True, help="Bytes from the end.")
@_address
def logs(cluster: str, job: str, tail: int, address: str | None) -> None:
    """Print the end of a job's output: s0-0 is the scheduler, w3-4 a worker."""
    with _gateway(address) as gateway:
        click.echo(gateway.logs(cluster, job, tail=tail), nl=False)


@click.command()
@click.argument("clusters", nargs=-1, required=True)
@_address
def end(clusters: tuple[str, ...], address: str | None) -> None:
    """Stop clusters of yours."""
    with _gateway(address) as gateway:
        for name in clusters:
            gateway.stop_cluster(name)
            click.echo(f"{name} is being stopped")
