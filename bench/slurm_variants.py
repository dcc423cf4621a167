"""The two gateways that ``bench.slurm`` compares, each as a server process on the same real Slurm."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from dask_gateway import BasicAuth, Gateway

from rigs.environments import environment
from rigs.facility import free_ports
from rigs.gateway import GatewayRig, wait_until
from rigs.slurm import Slurm

PASSWORD = "only for the bench"

_clients: list[Gateway] = []
"""Kept until Python ends: a client that is deleted closes itself once more, which fails."""


@dataclass
class Variant:
    """A running gateway: its name, address, and the process whose CPU time counts."""

    name: str
    client: Gateway
    server: psutil.Process

    def cpu(self) -> float:
        """CPU-seconds of the server and of all its commands that have ended."""
        with self.server.oneshot():
            times = self.server.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)


def sleeper(directory: Path) -> Path:
    """What stands for a worker: it only sleeps, whatever it is given."""
    path = directory / "sleeper"
    path.write_text("#!/bin/sh\nexec sleep 3600\n")
    path.chmod(0o755)
    return path


@contextlib.contextmanager
def penstock(
    slurm: Slurm, user: str, python: Path | None = None, commands: Path | None = None
) -> Iterator[Variant]:
    """Ours, as root, with the configuration that the documentation shows.

    ``python``: of schedulers, if not the usual one. ``commands``: where Slurm's are looked for first.
    """
    port = free_ports(1)[0]
    rig = GatewayRig()
    bin = "" if commands is None else f'bin = "{commands}"'
    rig.config = textwrap.dedent(f"""
        [[listen]]
        address = "127.0.0.1:{port}"
        [auth]
        type = "basic"
        users_file = "{rig.directory}/users"
        [backends.slurm]
        type = "slurm"
        config = "{slurm.config}"
        scratch = "{slurm.directory}/scratch"
        {bin}
        [profiles.slurm.scheduler]
        backend = "slurm"
        python = "{python or environment("new")}"
        [profiles.slurm.workers.default]
        backend = "slurm"
        python = "{sleeper(rig.directory)}"
        memory = "512 MiB"
        [profiles.slurm.limits]
        worker_start_timeout = "2 h"
        """)
    _write_users(rig.directory / "users", user)
    try:
        rig.start()
        assert rig.process is not None
        with _client(rig.address, user) as client:
            yield Variant("penstock", client, psutil.Process(rig.process.pid))
    finally:
        rig.stop()


def _write_users(path: Path, user: str) -> None:
    import bcrypt

    made = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    path.touch(mode=0o600)
    path.write_text(f"{user}:{made}\n")


@contextlib.contextmanager
def peer(slurm: Slurm, user: str) -> Iterator[Variant]:
    """``dask-gateway-server`` as root; it becomes the user by sudo, which root always may."""
    if shutil.which("sudo") is None:
        sys.exit("the peer needs sudo: sudo apt install sudo")
    directory = Path(tempfile.mkdtemp(prefix="pk-peer-", dir="/tmp"))
    directory.chmod(0o711)
    port, proxy_port = free_ports(2)
    config = directory / "config.py"
    config.write_text(_peer_config(slurm, directory, port, proxy_port))
    program = environment("peer").with_name("dask-gateway-server")
    environ = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-f", str(config)], stdout=log, stderr=log, env=environ, cwd=directory
        )
    try:
        with _client(f"http://127.0.0.1:{port}", user) as client:
            wait_until(lambda: _answers(client), f"the peer is ready: {directory}/log")
            yield Variant("peer", client, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(directory, ignore_errors=True)


def _client(address: str, user: str) -> Gateway:
    """An unmodified client."""
    client = Gateway(address, auth=BasicAuth(user, PASSWORD))
    _clients.append(client)
    return client


def _answers(client: Gateway) -> bool:
    try:
        client.list_clusters()
    except Exception:
        return False
    return True


def _peer_config(slurm: Slurm, directory: Path, port: int, proxy_port: int) -> str:
    """Its own defaults but for what the rig and workers that only sleep need."""
    staging = directory / "staging"
    staging.mkdir()
    staging.chmod(0o1777)
    python = environment("peer")
    for name in ("sbatch", "scancel", "squeue"):  # it calls them with an empty environment
        path = directory / name
        real = shutil.which(name)
        path.write_text(f'#!/bin/sh\nSLURM_CONF={slurm.config} exec {real} "$@"\n')
        path.chmod(0o755)
    return textwrap.dedent(f"""
        c.DaskGateway.backend_class = "dask_gateway_server.backends.jobqueue.slurm.SlurmBackend"
        c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
        c.SimpleAuthenticator.password = "{PASSWORD}"
        c.Proxy.address = "127.0.0.1:{port}"
        c.Proxy.tcp_address = "127.0.0.1:{proxy_port}"
        c.SlurmBackend.submit_command = "{directory}/sbatch"
        c.SlurmBackend.cancel_command = "{directory}/scancel"
        c.SlurmBackend.status_command = "{directory}/squeue"
        c.SlurmBackend.worker_start_timeout = 7200
        c.SlurmBackend.dask_gateway_jobqueue_launcher = (
            "{python.with_name("dask-gateway-jobqueue-launcher")}"
        )
        c.SlurmClusterConfig.staging_directory = "{staging}/{{username}}"
        c.SlurmClusterConfig.scheduler_cmd = ["{python}", "-m", "distributed.cli.dask_scheduler"]
        c.SlurmClusterConfig.worker_cmd = ["{sleeper(directory)}"]
        c.SlurmClusterConfig.worker_memory = "512 M"
        c.SlurmClusterConfig.scheduler_memory = "1 G"
        """)
