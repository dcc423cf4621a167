"""``penstock config``: is a configuration right, and what does it amount to?"""

from __future__ import annotations

import os
from pathlib import Path

import click

from penstock.cli.common import config_option
from penstock.model.errors import SettingsError
from penstock.settings import Settings, embedded, load
from penstock.settings.show import show as show_settings


@click.group()
def config() -> None:
    """Check or show a configuration."""


@config.command()
@config_option
def check(config: Path | None) -> None:
    """Tell every mistake of a configuration at once; exit status 1 when there is any."""
    settings = _load(config)
    profiles = ", ".join(settings.profiles)
    click.echo(f"{config or 'The built-in configuration'} is right. Profiles: {profiles}.")


@config.command()
@config_option
def show(config: Path | None) -> None:
    """Print the whole configuration as TOML, with defaults, variables and masked secrets."""
    click.echo(show_settings(_load(config)), nl=False)


def _load(path: Path | None) -> Settings:
    try:
        # Without a file it is what `penstock serve` does without one, if no variable says else.
        settings = load(path, os.environ)
        return embedded() if path is None and settings == Settings() else settings
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
