"""A real gateway for tests: ``penstock serve`` as a process of its own, with all that it starts."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import yaml
from dask_gateway import BasicAuth, Gateway

from penstock.settings.auth import this_user


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> object:
    """Wait for a condition to be true; fails with ``what`` once the deadline is over."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)


class GatewayRig:
    """One gateway with a state directory of its own; ``config`` is the text of a TOML file."""

    def __init__(self, config: str | None = None, environ: dict[str, str] | None = None) -> None:
        # Not pytest's tmp_path: Unix sockets need a short path, other users an open one.
        self.directory = Path(tempfile.mkdtemp(prefix="pk-", dir="/tmp"))
        self.directory.chmod(0o711)
        self.state = self.directory / "state"
        self.dask_config = self.directory / "dask" / "penstock.yaml"
        self.log = self.directory / "serve.log"
        self.config = config
        self.environ = {**os.environ, **(environ or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.address = ""

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "penstock", *arguments]

    def start(
        self, crash: tuple[str, int] | None = None, through: Sequence[str] | None = None
    ) -> GatewayRig:
        """Start the server; ``crash``: it kills itself there (see ``crashing_serve``).

        ``through``: a script beside this file, with arguments, that runs the server in its way.
        """
        arguments = ["serve", *self.place()]
        if self.config is None:
            arguments += ["--dask-config", str(self.dask_config)]
        start = self.log.stat().st_size if self.log.exists() else 0
        command = self.command(*arguments)
        if crash is not None:
            through = ("crashing_serve.py", crash[0], str(crash[1]))
        if through is not None:
            script = Path(__file__).with_name(through[0])
            command = [sys.executable, str(script), *through[1:], *arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environ,
                start_new_session=True,
            )
        process = self.process

        def ready() -> bool:
            text = self.log.read_text()[start:]
            assert process.poll() is None, f"penstock serve ended:\n{text}"
            found = re.search(r"at (https?://[0-9.:]+)", text)
            if found:
                self.address = found[1]
            return found is not None

        wait_until(ready, f"the gateway is ready: {self.log}")
        return self

    def place(self) -> list[str]:
        """The options that tell any command of an admin which gateway this is."""
        options = ["--state", str(self.state)]
        if self.config is not None:
            path = self.directory / "penstock.toml"
            path.write_text(self.config)
            path.chmod(0o600)
            options += ["--config", str(path)]
        return options

    @property
    def password(self) -> str:
        if self.config is not None:  # without [auth]: single-user mode
            return (self.state / "password").read_text().strip()
        text: str = yaml.safe_load(self.dask_config.read_text())["gateway"]["auth"]["kwargs"][
            "password"
        ]
        return text

    @property
    def user(self) -> str:
        if self.config is not None:
            return this_user()
        text: str = yaml.safe_load(self.dask_config.read_text())["gateway"]["auth"]["kwargs"][
            "username"
        ]
        return text

    def client(self, user: str | None = None, password: str | None = None, **kwargs) -> Gateway:
        """An unmodified dask_gateway client of one user."""
        auth = BasicAuth(user or self.user, password or self.password)
        return Gateway(self.address, auth=auth, **kwargs)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the server process alone: jobs and door go on."""
        assert self.process is not None
        os.kill(self.process.pid, number)
        self.process.wait(30)

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a ``penstock`` command in this gateway's surroundings."""
        done = subprocess.run(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            env={**self.environ, "DASK_CONFIG": str(self.dask_config.parent)},
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def stop(self) -> None:
        """End all: clusters, server and door; then take the directory away."""
        if self.process is not None and self.process.poll() is not None:
            with contextlib.suppress(AssertionError):
                self.start()
        try:
            if self.process is not None:
                self.cli("stop", "--clusters", *self.place())
                self.process.wait(30)
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def running_gateway(
    config: str | None = None, environ: dict[str, str] | None = None
) -> Iterator[GatewayRig]:
    """A started gateway that leaves nothing behind."""
    rig = GatewayRig(config, environ)
    try:
        yield rig.start()
    finally:
        rig.stop()
