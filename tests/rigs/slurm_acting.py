"""What a site sets up so that a gateway that is not root acts for users of Slurm: one rule of sudo
with the helper, or slurmrestd with tokens. And the gateway itself as such an account."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.backends.slurm import helper
from rigs.gateway import GatewayRig
from rigs.slurm import Slurm

RULE = Path(__file__).resolve().parents[2] / "packaging" / "sudo" / "penstock"


def as_user(user: str, *command: str, **options) -> subprocess.CompletedProcess[str]:
    """A command of somebody's own."""
    entry = pwd.getpwnam(user)
    return subprocess.run(
        command, user=entry.pw_uid, group=entry.pw_gid, cwd="/", timeout=60,
        extra_groups=os.getgrouplist(user, entry.pw_gid), capture_output=True, text=True, **options,
    )  # fmt: skip


def ask_helper(command: list[str], request: dict[str, Any], script: bytes = b"", **options: Any):
    """One request to the helper, as a caller who has read its source: (answer, words of sudo)."""
    line = json.dumps({"version": helper.VERSION, "seconds": 20, **request}).encode()
    done = subprocess.run(
        command, input=line + b"\n" + script, capture_output=True, cwd="/", timeout=60, **options
    )
    told = json.loads(done.stdout) if done.stdout else None
    return told, done.stderr.decode()


@contextlib.contextmanager
def installed_helper(cluster: Slurm) -> Iterator[Path]:
    """The helper as root installs it, with this cluster as the site's."""
    place = Path(tempfile.mkdtemp(prefix="pk-helper-", dir="/tmp"))
    place.chmod(0o755)
    try:
        path = place / "penstock-slurm"
        subprocess.run(["install", "-m", "755", helper.__file__, str(path)], check=True)
        path.with_name("penstock-slurm.json").write_text(
            json.dumps({"slurm_conf": str(cluster.config), "path": str(cluster.bin)})
        )
        yield path
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="session")
def slurm_helper(slurm_cluster: Slurm) -> Iterator[Path]:
    """One for the session. Tests that act by sudo as root need no rule, the helper decides the same."""
    with installed_helper(slurm_cluster) as path:
        yield path


@contextlib.contextmanager
def sudo_rule(account: str, users: tuple[str, ...], path: Path) -> Iterator[None]:
    """The packaged rule: ``account`` may start the helper as these users, and do nothing else."""
    draft = path.with_name("rule")
    text = RULE.read_text().replace("/usr/local/libexec/penstock/penstock-slurm", str(path))
    rule_of = f"{account} ALL=({','.join(users)})"
    assert "penstock ALL=(%dask-users)" in text
    draft.write_text(text.replace("penstock ALL=(%dask-users)", rule_of))
    subprocess.run(["visudo", "-c", "-q", "-f", str(draft)], check=True)
    rule = Path("/etc/sudoers.d", f"penstock-test-{os.getpid()}")
    try:
        subprocess.run(["install", "-m", "440", str(draft), str(rule)], check=True)
        yield
    finally:
        rule.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def ruled_helper(
    slurm_helper: Path, gateway_account: str, unix_users: tuple[str, str]
) -> Iterator[Path]:
    """The helper, with the rule that lets the gateway's account start it as the session's users."""
    with sudo_rule(gateway_account, unix_users, slurm_helper):
        yield slurm_helper


class Restd:
    """slurmrestd as a daemon of its own account: ``url``, and tokens of any user."""

    def __init__(self, cluster: Slurm) -> None:
        self.cluster = cluster
        self.place = Path(tempfile.mkdtemp(prefix="pk-restd-", dir="/tmp"))
        self.socket = self.place / "socket"
        self.url = f"unix:{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Restd:
        account = pwd.getpwnam("daemon")  # it refuses to be root, or SlurmUser
        self.place.chmod(0o755)
        os.chown(self.place, account.pw_uid, account.pw_gid)
        pages = "openapi/v0.0.38" if self.cluster.programs is None else "openapi/slurmctld"
        self._process = subprocess.Popen(
            [
                self.cluster.program("slurmrestd"),
                "-a",
                "rest_auth/jwt",
                "-s",
                pages,
                self.url,
            ],
            env={**self.cluster.environ, "SLURM_JWT": "daemon"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            umask=0,
            cwd="/",
            start_new_session=True,
        )
        process = self._process

        def listens() -> bool:
            assert process.poll() is None, "slurmrestd ended"
            return self.socket.exists()

        self.cluster.wait_for(listens, "slurmrestd listens")
        return self

    def token(self, user: str, seconds: int = 3600) -> str:
        """What ``scontrol token`` prints."""
        words = ("scontrol", "token", f"username={user}", f"lifespan={seconds}")
        return self.cluster.run(*words).stdout

    def keep(self, name: str, token: str, account: str) -> Path:
        """A token in a file that only an account can read."""
        path = self.place / f"{name}.token"
        path.touch(mode=0o600)
        path.write_text(token)
        shutil.chown(path, account)
        return path

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None
        shutil.rmtree(self.place, ignore_errors=True)


@contextlib.contextmanager
def slurmrestd(cluster: Slurm) -> Iterator[Restd]:
    """A started one."""
    daemon = Restd(cluster)
    try:
        yield daemon.start()
    finally:
        daemon.stop()


@functools.lru_cache
def become(account: str) -> tuple[str, ...]:
    """The words before a command that make it an account's, with no right besides.

    Where that account cannot read this checkout and its Python, it may read (and only read).
    """
    words = ("setpriv", "--reuid", account, "--regid", account, "--init-groups")
    # A second exec, as setpriv itself still has root's rights when it does the first.
    trial = [*words, "/bin/sh", "-c", '"$0" -c "import penstock"', sys.executable]
    if subprocess.run(trial, capture_output=True, cwd="/").returncode == 0:
        return words
    return (*words, "--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")


class UnprivilegedGateway(GatewayRig):
    """``penstock serve`` as an account that is neither root nor any of the users."""

    def __init__(self, account: str) -> None:
        super().__init__(environ={"HOME": "/nonexistent"})
        self.account = account

    def command(self, *arguments: str) -> list[str]:
        return [*become(self.account), *super().command(*arguments)]

    def place(self) -> list[str]:
        options = super().place()
        for path in (self.directory, *self.directory.glob("*")):
            shutil.chown(path, self.account)
        return options
