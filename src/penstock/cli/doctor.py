"""``penstock doctor``: what is wrong with this installation, before a user finds out."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
from pathlib import Path

import click

from penstock.backends.insight import Finding, Verdict
from penstock.cli.common import config_option, load_settings, state_directory, state_option
from penstock.control.channel import printable
from penstock.model.errors import PenstockError
from penstock.server.state import State
from penstock.server.visit import Wish, visit
from penstock.settings import Settings, embedded

WIDTH = 80

_SIGNS = {Verdict.GOOD: ("✓", "ok"), Verdict.WARNING: ("!", "!!"), Verdict.BAD: ("✗", "XX")}
_COLOURS = {Verdict.GOOD: "green", Verdict.WARNING: "yellow", Verdict.BAD: "red"}


@click.command()
@config_option
@state_option
@click.option("--backend", metavar="NAME", help="Examine only this one.")
@click.option("--user", metavar="NAME", help="A user whose rights and limits are looked at.")
@click.option("--probe", is_flag=True, help="Run a short job for each kind that profiles know.")
@click.option(
    "--patience",
    type=click.FloatRange(min=1),
    default=120.0,
    show_default=True,
    help="Seconds that such a job may take.",
)
def doctor(
    config: Path | None,
    state: Path | None,
    backend: str | None,
    user: str | None,
    probe: bool,
    patience: float,
) -> None:
    """Examine this installation and its batch systems; exit status 1 when something is bad.

    It needs no running server, and changes nothing. Run it as the account of the server. With
    --probe jobs are submitted as --user: can the nodes reach this gateway, and does the profiles'
    Python have distributed there?
    """
    try:
        settings, place = _settings(config, state)
        if backend is not None and backend not in settings.backends:
            known = ", ".join(settings.backends)
            raise click.UsageError(f"There is no backend {backend!r}; known are {known}")
        if probe and user is None and os.geteuid() == 0 and settings.auth.type != "single":
            raise click.UsageError("--probe needs --user: whose jobs shall they be?")
        well = asyncio.run(_tell(settings, place, Wish(backend, user, probe, patience)))
    except PenstockError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(0 if well else 1)


def _settings(config: Path | None, state: Path | None) -> tuple[Settings, State]:
    if config is None:
        place = State(state_directory(state))
        return embedded(place.directory), place
    settings = load_settings(config, state)
    return settings, State(settings.server.state_dir)


async def _tell(settings: Settings, place: State, wish: Wish) -> bool:
    """Print what is found as it is found; whether nothing is bad."""
    plain = not _is_unicode()
    seen = dict.fromkeys(Verdict, 0)
    last = ""
    async for chapter, finding in visit(settings, place, wish):
        if chapter != last:
            click.echo(f"{chapter}" if not last else f"\n{chapter}")
            last = chapter
        seen[finding.verdict] += 1
        click.secho(show(finding, plain=plain), fg=_COLOURS[finding.verdict])
    bad, warnings = seen[Verdict.BAD], seen[Verdict.WARNING]
    click.echo(f"\n{seen[Verdict.GOOD]} good, {warnings} to look at, {bad} bad")
    return not bad


def _is_unicode() -> bool:
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    return sys.stdout.isatty() and encoding.replace("-", "") == "utf8"


def show(finding: Finding, *, plain: bool = False) -> str:
    """A finding in lines of at most 80 columns; ``plain``: in ASCII signs."""
    sign = _SIGNS[finding.verdict][plain]
    indent = " " * (len(sign) + 3)
    lines = textwrap.wrap(
        printable(f"{finding.what}: {finding.found}"),
        WIDTH,
        initial_indent=f"  {sign} ",
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    if finding.advice:
        lines += textwrap.wrap(
            printable(f"-> {finding.advice}"),
            WIDTH,
            initial_indent=indent,
            subsequent_indent=indent + "   ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)
