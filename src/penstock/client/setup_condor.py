"""``setup_condor``: from a login node's password to a notebook that can submit to its pool.

The user's own ``ssh`` asks for password and second factor, at the user's own terminal: only what the
remote command prints is taken from it. A program that types passwords into prompts (the way of
older scripts) has to hold the password, to guess every prompt, and to trust any host key.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from typing import Any

import click
import dask.config

from penstock.client import condor_access as access
from penstock.client import condor_files as files
from penstock.client.condor_access import Plan
from penstock.client.condor_files import SetupError
from penstock.client.site import read_dotenv


def _setting(name: str, default: Any = None) -> Any:
    return dask.config.get(f"penstock.setup-condor.{name}", default)


def _checked(value: str, pattern: Any, what: str) -> str:
    if not pattern.fullmatch(value):
        raise SetupError(f"{what} cannot be {value[:80]!r}")
    return value


def make_plan(given: dict[str, Any]) -> Plan:
    """Arguments first, then the Dask configuration. Raises SetupError for what is missing or wrong."""

    def pick(name: str, default: Any = None) -> Any:
        return given.get(name.replace("-", "_")) or _setting(name, default)

    host = pick("login-host")
    if not host:
        raise SetupError(
            "Which login node? Say --login-host, or set penstock.setup-condor.login-host in the "
            "Dask configuration (DASK_PENSTOCK__SETUP_CONDOR__LOGIN_HOST, also in .env)"
        )
    host = _checked(str(host), files.HOST, "The login host")
    schedd = _checked(str(pick("schedd-host", host)), files.NAME, "The schedd host")
    collector = str(pick("collector-host", schedd))
    _checked(collector.partition(":")[0], files.HOST, "The collector host")
    user, group = pick("user"), pick("require-group")
    fetch = shlex.split(str(pick("fetch-command", "condor_token_fetch")))
    lifetime = pick("lifetime")
    if lifetime:
        fetch += ["-lifetime", str(int(lifetime))]
    if schedd != host or given.get("schedd_host"):
        fetch += ["-name", schedd]
    methods = str(pick("methods", "IDTOKENS, FS"))
    return Plan(
        host=host,
        user=None if not user else _checked(str(user), files.NAME, "The user"),
        ssh=tuple(shlex.split(str(pick("ssh", "ssh")))),
        fetch=tuple(fetch),
        group=None if not group else _checked(str(group), files.NAME, "The group"),
        group_help=str(pick("group-help", "ask the people who run it")),
        token_name=_checked(str(pick("token-name", host)), files.NAME, "The token's name"),
        values=files.settings(schedd, collector, " ".join(methods.split())),
        directory=access.home() / ".condor",
    )


@click.command()
@click.option("--login-host", help="The node to log in to.")
@click.option("--user", help="The name there, if it is another one than here.")
@click.option("--schedd-host", help="The schedd to submit to. Default: the login host.")
@click.option("--collector-host", help="The pool's collector. Default: the schedd host.")
@click.option("--require-group", help="A Unix group on the login node that users must be in.")
@click.option("--group-help", help="What to do about it for those who are not.")
@click.option("--lifetime", type=click.IntRange(60), help="Seconds that the token shall be valid.")
@click.option("--token-name", help="The token's file name. Default: the login host.")
@click.option("--methods", help="Ways to authenticate, in order. Default: IDTOKENS, FS.")
@click.option("--fetch-command", help="On the login node. Default: condor_token_fetch.")
@click.option("--ssh", help='The ssh to use, with options: "ssh -p 2222".')
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
def main(dry_run: bool, **given: Any) -> None:
    """Let this machine submit to an HTCondor pool: get a token from its login node by ssh.

    ssh asks for your password and second factor; nothing of that is seen or kept here. Every option
    can be set as penstock.setup-condor.<option> in the Dask configuration, or as
    DASK_PENSTOCK__SETUP_CONDOR__<OPTION> in the environment or a .env file.
    """
    try:
        if read_dotenv():
            dask.config.refresh()
        _set_up(make_plan(given), dry_run)
    except SetupError as error:
        raise click.ClickException(f"{error}.") from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}.") from None


def _set_up(plan: Plan, dry_run: bool) -> None:
    if shutil.which(plan.ssh[0]) is None:
        raise SetupError(f"There is no {plan.ssh[0]} here: install OpenSSH's client")
    queue = access.find_queue_command()
    if dry_run:
        click.echo(f"Would run: {shlex.join(plan.command)}")
        click.echo(f"Would write the token to {plan.token_file} (0600), and change:")
        access.save_config(plan, dry_run)
        return
    # What could not be written is worth no login.
    files.with_block(access.read(plan.config_file), plan.values)
    click.echo(f"Logging in to {plan.host}; ssh asks for what it needs.")
    token = access.fetch_token(plan)
    access.make_directories(plan)
    access.save_token(plan, token)
    access.save_config(plan, dry_run)
    access.show_queue(queue)


def run(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    main(arguments, prog_name="setup_condor")
