"""What ``bench.htcondor`` compares on one real pool: this gateway with its workers submitted by the
server or by a notebook, dask-jobqueue, and HTCondor's own commands."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import psutil
from dask_gateway import BasicAuth, Gateway

from rigs.condor import Condor
from rigs.environments import environment
from rigs.facility import free_ports
from rigs.gateway import GatewayRig

PASSWORD = "only for the bench"
ROOT = Path(__file__).parents[1]

_clients: list[Gateway] = []
"""Kept until Python ends: a client that is deleted closes itself once more, which fails."""


class Pool:
    """The pool with what the bench asks of it, and one user who submits."""

    def __init__(self, condor: Condor, user: str, place: Path) -> None:
        self.condor, self.user, self.place = condor, user, place
        self.sleeper = place / "sleeper"
        """What stands for a worker: it only sleeps, whatever it is given."""
        self.sleeper.write_text("#!/bin/sh\nexec sleep 3600\n")
        self.sleeper.chmod(0o755)
        self.asked = place / "asked"
        self.bin = self._counting()

    def _counting(self) -> Path:
        """HTCondor's commands; ``condor_q`` leaves a byte for each question."""
        directory = self.place / "bin"
        directory.mkdir()
        for tool in self.condor.bin.glob("condor_*"):
            (directory / tool.name).symlink_to(tool)
        self.asked.touch()
        question = directory / "condor_q"
        question.unlink()
        question.write_text(
            f'#!/bin/sh\nprintf . >>{self.asked}\nexec {self.condor.bin}/condor_q "$@"\n'
        )
        question.chmod(0o755)
        return directory

    def questions(self) -> int:
        """How often the server has asked ``condor_q``."""
        return self.asked.stat().st_size

    def count(self, constraint: str = "JobStatus =!= 3 && JobStatus =!= 4") -> int:
        """Jobs in the queue, by default those that are not over."""
        said = self.condor.run("condor_q", "-allusers", "-totals", "-constraint", constraint).stdout
        found = re.search(r"^Total for query: (\d+) jobs", said, re.MULTILINE)
        assert found, said
        return int(found[1])

    def submit(self, size: int, script: Path) -> None:
        """One ``condor_submit`` of the user, as a shell loop would call it."""
        text = (
            f"executable = {script}\ninitialdir = {self.place}\nshould_transfer_files = YES\n"
            f"request_memory = 512\nqueue {size}\n"
        )
        self.condor.run("condor_submit", "-terse", "-", user=self.user, input=text)

    def start(self, *command: str, environ: dict[str, str]) -> Child:
        """A program of the user's."""
        account = pwd.getpwnam(self.user)
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self.place / "child.log").open("ab"),
            text=True,
            cwd=account.pw_dir,
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            start_new_session=True,
            env={
                "PATH": f"{self.condor.bin}:/usr/bin:/bin",
                "HOME": account.pw_dir,
                "LOGNAME": self.user,
                "CONDOR_CONFIG": str(self.condor.config),
                **environ,
            },
        )
        return Child(process, self.place / "child.log")


class Child:
    """``bench/htcondor_child.py`` in an environment of its own: a notebook that obeys."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self.log = process, log

    def tell(self, *words: object) -> None:
        """Do this; see ``done``."""
        assert self.process.stdin is not None
        print(*words, file=self.process.stdin, flush=True)

    def done(self) -> None:
        """Wait until it has done what it was told last."""
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        assert answer == "done\n", f"{answer}{self.log.read_text()[-3000:]}"

    def end(self) -> None:
        """The notebook is closed."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Server:
    """A running gateway of ours, with an unmodified client."""

    def __init__(self, rig: GatewayRig, user: str, client: Gateway) -> None:
        assert rig.process is not None
        self.rig, self.user, self.client = rig, user, client
        self.process = psutil.Process(rig.process.pid)

    def cpu(self) -> float:
        """CPU-seconds of the server and of all its commands that have ended."""
        with self.process.oneshot():
            times = self.process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)


@contextlib.contextmanager
def penstock(pool: Pool) -> Iterator[Server]:
    """Ours, as root, with the configuration that the documentation shows."""
    rig = GatewayRig()
    rig.config = _config(pool, rig.directory)
    users = rig.directory / "users"
    users.touch(mode=0o600)
    users.write_text(f"{pool.user}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}")
    try:
        rig.start()
        with Gateway(rig.address, auth=BasicAuth(pool.user, PASSWORD)) as client:
            _clients.append(client)
            yield Server(rig, pool.user, client)
    finally:
        rig.stop()


def _config(pool: Pool, directory: Path) -> str:
    return textwrap.dedent(f"""
        [[listen]]
        address = "127.0.0.1:{free_ports(1)[0]}"
        [auth]
        type = "basic"
        users_file = "{directory}/users"
        [backends.htcondor]
        type = "htcondor"
        bin = "{pool.bin}"
        config = "{pool.condor.config}"
        directory = "{pool.place}/files"
        [backends.notebook]
        type = "notebook"
        [profiles.server.scheduler]
        backend = "htcondor"
        python = "{environment("new")}"
        [profiles.server.workers.default]
        backend = "htcondor"
        python = "{pool.sleeper}"
        memory = "512 MiB"
        [profiles.server.limits]
        worker_start_timeout = "2 h"
        [profiles.lent.scheduler]
        backend = "htcondor"
        python = "{environment("new")}"
        [profiles.lent.workers.default]
        backend = "notebook"
        memory = "512 MiB"
        [profiles.lent.limits]
        worker_start_timeout = "2 h"
        """)


@contextlib.contextmanager
def notebook(pool: Pool, server: Server) -> Iterator[Child]:
    """``HTCGateway`` in the user's environment, with the user's configuration."""
    packages = pool.place / "packages"
    if not packages.exists():
        shutil.copytree(ROOT / "src", packages)
    auth = {"username": server.user, "password": PASSWORD}
    section: dict[str, Any] = {
        "address": server.rig.address,
        "auth": {"type": "basic", "kwargs": auth},
        "htcondor": {"bin": str(pool.condor.bin), "python": str(pool.sleeper), "proxy": False},
    }
    dask = pool.place / "dask"
    dask.mkdir(mode=0o700, exist_ok=True)
    (dask / "gateway.yaml").write_text(json.dumps({"gateway": section}))
    _own(pool.user, dask, *dask.iterdir())
    environ = {"DASK_CONFIG": str(dask), "PYTHONPATH": str(packages)}
    with _child(pool, environment("notebook"), "notebook", environ) as child:
        yield child


@contextlib.contextmanager
def jobqueue(pool: Pool) -> Iterator[Child]:
    """``dask_jobqueue.HTCondorCluster`` in the user's environment."""
    with _child(pool, environment("jobqueue"), str(pool.sleeper), {}) as child:
        yield child


@contextlib.contextmanager
def _child(pool: Pool, python: Path, kind: str, environ: dict[str, str]) -> Iterator[Child]:
    script = pool.place / "child.py"
    shutil.copyfile(Path(__file__).with_name("htcondor_child.py"), script)
    script.chmod(0o644)
    child = pool.start(str(python), str(script), kind, environ=environ)
    try:
        yield child
    finally:
        child.end()


def _own(user: str, *paths: Path) -> None:
    account = pwd.getpwnam(user)
    for path in paths:
        os.chown(path, account.pw_uid, account.pw_gid)
