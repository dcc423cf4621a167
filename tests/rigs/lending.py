"""A gateway whose workers come from notebooks, which submit local jobs; and such notebooks.

The scheduler is the gateway's own job. Where a notebook's batch system is does not matter to most
of what must hold, so it is this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dask
import psutil
from dask_gateway import BasicAuth

from penstock.client.htcondor import HTCGateway
from rigs.facility import free_ports
from rigs.gateway import GatewayRig, running_gateway

CONFIG = """
[[listen]]
address = "127.0.0.1:{port}"

[backends.local]
type = "local"
period = "500 ms"

[backends.notebook]
type = "notebook"
period = "500 ms"
grace = "4 s"
visibility = "3 s"

[profiles.notebook.scheduler]
backend = "local"

[profiles.notebook.workers.default]
backend = "notebook"
max_cores = 4
nanny = false

[profiles.own.scheduler]
backend = "local"

[profiles.own.workers.default]
backend = "local"
nanny = false
"""

SCRIPT = """
import json, sys, time
import dask
from dask_gateway import BasicAuth
from penstock.client.htcondor import HTCGateway

order = json.loads(sys.argv[1])
dask.config.set({"gateway.notebook.backend": order["backend"]})
gateway = HTCGateway(order["address"], auth=BasicAuth(*order["auth"]))
if order["connect"]:
    cluster = gateway.connect(order["connect"], shutdown_on_close=True)
else:
    cluster = gateway.new_cluster()
cluster.scale(order["scale"])
print(json.dumps([cluster.name, cluster.helper.pid]), flush=True)
sys.stdin.readline()
"""


@dataclass
class Kernel:
    """A notebook of its own process, with a cluster."""

    process: subprocess.Popen[str]
    cluster: str
    helper: int

    def kill(self, *more: int) -> None:
        """SIGKILL to it, and to ``more``, who see nothing of each other's end."""
        for pid in more:
            os.kill(pid, signal.SIGSTOP)
        for pid in (self.process.pid, *more):
            os.kill(pid, signal.SIGKILL)
        self.process.wait(30)


@dataclass
class Lending:
    """The gateway, and where this test's notebooks submit to."""

    rig: GatewayRig

    @property
    def backend(self) -> dict[str, str]:
        return {"type": "local", "directory": str(self.rig.directory / "lent")}

    def gateway(self, **options: object) -> HTCGateway:
        auth = BasicAuth(self.rig.user, self.rig.password)
        return HTCGateway(self.rig.address, auth=auth, **options)

    def workers(self, cluster: str) -> list[psutil.Process]:
        """Processes of jobs that notebooks submitted for a cluster."""
        place = str(self.rig.directory / "lent")
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                cwd = process.cwd()
                if cwd.startswith(place) and cluster in cwd:
                    found.append(process)
        return found

    @contextlib.contextmanager
    def kernel(self, scale: int, connect: str = "", program: str = SCRIPT) -> Iterator[Kernel]:
        """A notebook that makes a cluster, or connects to one, scales it, and waits."""
        order = {
            "address": self.rig.address,
            "auth": [self.rig.user, self.rig.password],
            "backend": self.backend,
            "connect": connect,
            "scale": scale,
        }
        process = subprocess.Popen(
            [sys.executable, "-c", program, json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            lines = iter(process.stdout.readline, "")
            found = next((line for line in lines if line.startswith("[")), None)
            assert found, "the notebook ended"
            yield Kernel(process, *json.loads(found))
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(30)
            process.stdin.close()
            process.stdout.close()


@contextlib.contextmanager
def running_lending() -> Iterator[Lending]:
    """A started gateway; notebooks of this very process submit to its ``lent`` directory."""
    with running_gateway(CONFIG.format(port=free_ports(1)[0])) as rig:
        lending = Lending(rig)
        (rig.directory / "lent").mkdir()
        (rig.directory / "lent").chmod(0o711)
        with dask.config.set({"gateway.notebook.backend": lending.backend}):
            yield lending


def settled(helper: int) -> bool:
    """Whether a helper's process is gone."""
    return not Path(f"/proc/{helper}").exists() or (
        psutil.Process(helper).status() == psutil.STATUS_ZOMBIE
    )
