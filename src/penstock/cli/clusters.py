"""``penstock list|show|logs|end``: a user's clusters from a shell, over the REST API."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

import click
from aiohttp import ClientResponseError
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from penstock.cli.jobs import job_table
from penstock.client import Gateway

_address = click.option("--address", help="The gateway's URL; else from the Dask configuration.")
_ALL = ["pending", "running", "stopping", "stopped", "failed"]
_WHOLE = re.compile(r"[0-9a-f]{32}")
_JOB = re.compile(r"[sw][0-9]+-[0-9]+")
_HELP = "CLUSTER is a cluster's name or the beginning of one; without it, your only active cluster."


@contextlib.contextmanager
def _gateway(address: str | None) -> Iterator[Any]:
    """A connected gateway; what goes wrong is told in one line instead of a traceback."""
    try:
        with Gateway(address=address) as gateway:
            yield gateway
    except click.ClickException:
        raise
    except ClientResponseError as error:
        words = f"The gateway refused this ({error.status} {error.message})"
        raise click.ClickException(words) from None
    except Exception as error:
        raise click.ClickException(str(error) or type(error).__name__) from None


def _find(gateway: Any, start: str | None) -> str:
    """The whole name of the cluster that the user means. Raises ClickException."""
    if start is not None and _WHOLE.fullmatch(start):
        return start
    active = [report.name for report in gateway.list_clusters()]
    if start is None:
        if len(active) == 1:
            return str(active[0])
        many = f"you have {len(active)} active clusters" if active else "you have no active cluster"
        raise click.ClickException(f"Name a cluster: {many}; see `penstock list --all`")
    every = [report.name for report in gateway.list_clusters(status=_ALL)]
    for names in (active, every):
        found = [name for name in names if name.startswith(start)]
        if len(found) == 1:
            return str(found[0])
        if found:
            raise click.ClickException(f"{len(found)} clusters' names begin with {start!r}")
    raise click.ClickException(f"No cluster of yours has a name that begins with {start!r}")


def _chosen(options: Mapping[str, Any]) -> str:
    """A cluster's options in a line; of variables only the names, as values may be secrets.

    Those that were not passed on stand in its events.
    """
    nothing: tuple[object, ...] = ("", None, {}, [])
    shown = {k: v for k, v in options.items() if v not in nothing and k != "env_dropped"}
    for key, value in shown.items():
        if not isinstance(value, str) and isinstance(value, Collection):
            shown[key] = ",".join(map(str, value))
    return "  ".join(f"{key}={value}" for key, value in shown.items())


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000).strftime("%Y-%m-%d %H:%M:%S")


@click.command(name="list")
@_address
@click.option("--all", "everything", is_flag=True, help="Ended clusters too.")
def list(address: str | None, everything: bool) -> None:
    """List your clusters."""
    table = Table(
        Column("cluster", no_wrap=True, min_width=32),
        Column("status", no_wrap=True, min_width=8),
        Column("since", no_wrap=True, min_width=16),
        "options",
        box=None,
    )
    with _gateway(address) as gateway:
        reports = gateway.list_clusters(status=_ALL if everything else None)
    for report in reports:
        since = report.start_time.strftime("%Y-%m-%d %H:%M")
        table.add_row(report.name, report.status.name.lower(), since, Text(_chosen(report.options)))
    if reports:
        console = Console()
        console.print(table, soft_wrap=not console.is_terminal)
    else:
        click.echo(f"You have no clusters{'' if everything else ' now; --all shows ended ones'}.")


@click.command(epilog=_HELP)
@click.argument("cluster", required=False)
@click.option("--jobs", "every", is_flag=True, help="A line for each job, also for equal ones.")
@_address
def show(cluster: str | None, every: bool, address: str | None) -> None:
    """Show a cluster, its jobs and what happened."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    with _gateway(address) as gateway:
        name = _find(gateway, cluster)
        live = gateway.live(name)
        jobs = gateway.jobs(name)
        events = gateway.events(name)
    status, profile, user = live["status"].lower(), live["profile"], live["user"]
    console.print(Text(f"{live['name']}  {status}  profile {profile}  user {user}"))
    if live["reason"]:
        console.print(Text(live["reason"]))
    for group, wish in live["scaling"].items():
        console.print(f"Workers of group {group}: {_wish(wish)}")
    if live["report"]:
        console.print(Text(_report(live["report"])))
    if jobs:
        plain = Console(highlight=False, markup=False, emoji=False)
        plain.print(job_table(jobs, time.time(), every=every), soft_wrap=not plain.is_terminal)
    for event in events:
        console.print(Text(f"{_moment(event['time'])}  {event['text']}"))


def _wish(wish: Mapping[str, Any]) -> str:
    if not wish["adaptive"]:
        return f"{wish['count']} wanted"
    most = "any number" if wish["maximum"] is None else wish["maximum"]
    return f"adaptive, from {wish['minimum']} to {most}"


def _report(report: Mapping[str, Any]) -> str:
    """What the scheduler said last, in a line."""
    tasks = ", ".join(f"{number} {state}" for state, number in report["tasks"].items() if number)
    parts = [
        _many(report["workers"], "worker"),
        _many(report["clients"], "client"),
        f"tasks: {tasks or 'none'}",
        f"{report['memory'] / 2**30:.1f} of {report['memory_limit'] / 2**30:.1f} GiB used",
    ]
    away = "" if report["connected"] else " (the scheduler is not connected now)"
    return " · ".join(parts) + away


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


@click.command(epilog=_HELP)
@click.argument("cluster", required=False)
@click.argument("job", default="s0-0")
@click.option("--tail", default=65536, show_default=True, help="Bytes from the end.")
@_address
def logs(cluster: str | None, job: str, tail: int, address: str | None) -> None:
    """Print the end of a job's output: s0-0 is the scheduler, w3-4 a worker."""
    if cluster is not None and _JOB.fullmatch(cluster):
        job = cluster  # no cluster's name looks like a job's
        cluster = None
    with _gateway(address) as gateway:
        click.echo(gateway.logs(_find(gateway, cluster), job, tail=tail), nl=False)


@click.command(epilog="CLUSTERS are names or beginnings of names.")
@click.argument("clusters", nargs=-1, required=True)
@_address
def end(clusters: tuple[str, ...], address: str | None) -> None:
    """Stop clusters of yours."""
    with _gateway(address) as gateway:
        for name in [_find(gateway, start) for start in clusters]:
            gateway.stop_cluster(name)
            click.echo(f"{name} is being stopped")
