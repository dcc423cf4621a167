"""``penstock``: the server's commands for admins, and a few for users.

Commands are imported when they are called: the base install has no server in it, and
``penstock list`` needs none.
"""

from __future__ import annotations

import importlib
import sys

import click

import penstock

_COMMANDS = {
    "serve": ("penstock.cli.serve", "Start the gateway's server."),
    "door": ("penstock.cli.door", "Run the front door alone (systemd starts it this way)."),
    "stop": ("penstock.cli.stop", "Stop the server; with --clusters everything."),
    "config": ("penstock.cli.config", "Check or show a configuration."),
    "doctor": ("penstock.cli.doctor", "Examine this installation and its batch systems."),
    "list": ("penstock.cli.clusters", "List your clusters."),
    "show": ("penstock.cli.clusters", "Show a cluster, its workers and what happened."),
    "logs": ("penstock.cli.clusters", "Print the end of a job's output."),
    "end": ("penstock.cli.clusters", "Stop clusters of yours."),
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        try:
            module = importlib.import_module(_COMMANDS[cmd_name][0])
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("penstock"):
                raise
            raise click.ClickException(
                f"`penstock {cmd_name}` needs the server's packages, and {error.name} is missing: "
                "pip install 'penstock[server]'"
            ) from None
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List all commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(penstock.__version__, prog_name="penstock")
def main() -> None:
    """Dask clusters on demand for every user of an analysis facility."""


if __name__ == "__main__":
    sys.exit(main())
