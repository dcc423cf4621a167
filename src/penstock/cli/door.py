"""``penstock door``: the front door alone, as a unit of its own."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from penstock.cli.common import config_option, load_settings, state_option
from penstock.door.process import main
from penstock.model.errors import PenstockError
from penstock.server.run import door_config
from penstock.server.state import State


@click.command()
@config_option
@state_option
def door(config: Path | None, state: Path | None) -> None:
    """Run the front door alone (systemd starts it this way); it logs to standard error.

    It takes connections, routes TLS to schedulers and hands the rest to the server, which may come
    and go: use `penstock serve --external-door` with it.
    """
    if config is None:
        raise click.UsageError("`penstock door` needs --config, the same as the server's")
    try:
        settings = load_settings(config, state)
        place = State(settings.server.state_dir)
        place.prepare()
    except PenstockError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(main(replace(door_config(settings, place), log=None)))
