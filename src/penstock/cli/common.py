"""What several commands share: finding the configuration and the state directory."""

from __future__ import annotations

import os
from pathlib import Path

import click

from penstock.settings import Settings, load

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="PENSTOCK_CONFIG",
    help="The configuration (TOML).",
)
state_option = click.option("--state", type=click.Path(path_type=Path), help="The state directory.")


def load_settings(config: Path, state: Path | None) -> Settings:
    """The settings of a file, with ``--state`` in place of its state directory.

    Raises SettingsError with every mistake.
    """
    environ = dict(os.environ)
    if state is not None:
        environ["PENSTOCK_SERVER__STATE_DIR"] = str(state.absolute())
    return load(config, environ)


def state_directory(state: Path | None) -> Path:
    """Where the state of a server without a configuration is."""
    return state.absolute() if state is not None else Settings().server.state_dir
