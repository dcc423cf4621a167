"""Logging in for a token, writing down what it opens, and looking through the open door."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click

from penstock.client import condor_files as files
from penstock.client.condor_files import SetupError

MOST = 1 << 20
"""Bytes that a login node may send; whoever sends more is cut off."""

TAIL = 8192
"""Bytes of ssh's words that are kept to judge them by."""


@dataclass(frozen=True)
class Plan:
    """What is to be done, all of it decided."""

    host: str
    user: str | None
    ssh: tuple[str, ...]
    fetch: tuple[str, ...]
    group: str | None
    group_help: str
    token_name: str
    values: dict[str, str]
    directory: Path

    @property
    def command(self) -> list[str]:
        """The one command that logs in."""
        login = ["-l", self.user] if self.user else []
        remote = files.remote_command(self.fetch, self.group)
        return [*self.ssh, "-T", *login, self.host, remote]

    @property
    def token_file(self) -> Path:
        return self.directory / "tokens.d" / self.token_name

    @property
    def config_file(self) -> Path:
        return self.directory / "user_config"


def home() -> Path:
    """Where HTCondor's tools look for ``.condor``: not in ``$HOME``, and nowhere for root.

    Raises SetupError for root, and for users without an account.
    """
    if os.geteuid() == 0:
        raise SetupError("HTCondor's tools read no ~/.condor of root: run this as yourself")
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        raise SetupError(f"No account here has the uid {os.geteuid()}") from None


def fetch_token(plan: Plan) -> str:
    """Log in, and return the token. Raises SetupError."""
    try:
        process = subprocess.Popen(plan.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise SetupError(f"{plan.ssh[0]} cannot be run: {error.strerror}") from None
    assert process.stdout is not None
    assert process.stderr is not None
    said = bytearray()
    listener = threading.Thread(target=_pass_on, args=(process.stderr, said), daemon=True)
    listener.start()
    output = process.stdout.read(MOST).decode(errors="replace")
    process.stdout.close()
    code = process.wait()
    listener.join(5)
    process.stderr.close()
    if code == files.NOT_MEMBER:
        raise SetupError(
            f"You are not in the group {plan.group} on {plan.host} (you are in: "
            f"{files.answer(output, 'groups')}); {plan.group_help}"
        )
    if code == files.NO_COMMAND:
        raise SetupError(f"There is no {plan.fetch[0]} on {plan.host}; name it by --fetch-command")
    if code != 0:
        words = bytes(said).decode(errors="replace")
        raise SetupError(files.why_ssh_failed(plan.host, code, words))
    return files.answer(output, "token")


def _pass_on(source: IO[bytes], kept: bytearray) -> None:
    """ssh's words go to the user at once; their end is kept."""
    while data := os.read(source.fileno(), 4096):
        sys.stderr.buffer.write(data)
        sys.stderr.flush()
        kept += data
        del kept[:-TAIL]


def write_private(path: Path, text: str) -> None:
    """Put a file of mode 0600 in place at once: never half of it, never readable by others.

    A symbolic link stays one: people keep such files elsewhere.
    """
    path = path.resolve()
    fd, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(fd, "w") as file:
            file.write(text)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def make_directories(plan: Plan) -> None:
    """``~/.condor/tokens.d``; tokens in a directory that others can read are none of HTCondor's."""
    plan.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    plan.token_file.parent.mkdir(mode=0o700, exist_ok=True)
    if plan.token_file.parent.stat().st_mode & 0o077:
        plan.token_file.parent.chmod(0o700)
        click.echo(f"{plan.token_file.parent} is now yours alone (0700).")


def save_token(plan: Plan, text: str) -> None:
    """Write the token, in the place of an older one of this name. Raises SetupError."""
    token = files.read_token(text)
    before = read(plan.token_file)
    if before.strip():
        try:
            old = files.read_token(before)
        except SetupError:
            raise SetupError(
                f"{plan.token_file} is there already and holds no token; choose another --token-name"
            ) from None
        click.echo(f"It takes the place of the token of {old}.")
    write_private(plan.token_file, text.strip() + "\n")
    click.echo(f"Token of {token}: {plan.token_file} (0600).")


def save_config(plan: Plan, dry_run: bool) -> None:
    """Write our block of the configuration, and show what changed. Raises SetupError."""
    before = read(plan.config_file)
    after = files.with_block(before, plan.values)
    change = files.diff(str(plan.config_file), before, after)
    for line in files.overridden(before, plan.values):
        click.echo(f"The new lines win over what {plan.config_file} says in {line}")
    if not change:
        click.echo(f"{plan.config_file} says it all already.")
        return
    click.echo(change)
    if dry_run:
        return
    mode = plan.config_file.stat().st_mode & 0o777 if before else 0o600
    write_private(plan.config_file, after)
    plan.config_file.chmod(mode)


def read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{path} cannot be read: {error}") from None


def find_queue_command() -> str:
    """The path of ``condor_q``. Raises SetupError."""
    found = shutil.which("condor_q", path=os.environ.get("CONDOR_BIN_DIR")) or shutil.which(
        "condor_q"
    )
    if found is None:
        raise SetupError(
            "There are no HTCondor tools here (condor_q is neither in PATH nor in CONDOR_BIN_DIR): "
            "install them, e.g. `conda install -c conda-forge htcondor`"
        )
    return found


def show_queue(command: str) -> None:
    """Run ``condor_q`` with what was set up. Raises SetupError with its own words."""
    code, words = _queue(command, {})
    if code != 0 and "CONDOR_CONFIG" in words and "CONDOR_CONFIG" not in os.environ:
        # Without any configuration of the machine's, the tools do not even read the user's.
        code, words = _queue(command, {"CONDOR_CONFIG": os.devnull})
        click.echo(
            "HTCondor is not configured on this machine. Its tools work with yours alone once you "
            f"say: export CONDOR_CONFIG={os.devnull}"
        )
    if code != 0:
        raise SetupError(f"All is written, but condor_q says: {words}")


def _queue(command: str, more: dict[str, str]) -> tuple[int, str]:
    """Run condor_q: (its exit code, its complaints in one line)."""
    sys.stdout.flush()
    environ = {**os.environ, **more}
    try:
        done = subprocess.run([command], stderr=subprocess.PIPE, text=True, timeout=60, env=environ)
    except subprocess.TimeoutExpired:
        return 1, "nothing within 60 s"
    return done.returncode, " ".join(done.stderr.split())
