"""The Slurm backend's face for the contract suite, over the session's real cluster."""

from __future__ import annotations

import asyncio
import getpass
import shutil
import tempfile
from pathlib import Path
from typing import Any

from penstock.backends.slurm import SlurmBackend, slurm_commands
from penstock.backends.slurm.acting import Acting
from penstock.model.ids import new_gateway_id
from penstock.model.job import Job
from penstock.settings.backends import SlurmJobSettings
from rigs.backends import Probes, end_all
from rigs.slurm import Slurm


class SlurmRig(Probes):
    """The Slurm backend under the contract suite, with jobs of one user."""

    def __init__(
        self, cluster: Slurm, owner: str | None = None, acting: Acting | None = None
    ) -> None:
        self.gateway = new_gateway_id()
        self.owner = owner or getpass.getuser()
        self.acting = acting
        self.cluster = cluster
        self.directory = Path(tempfile.mkdtemp(prefix="pk-notes-", dir="/tmp"))
        self.directory.chmod(0o755)
        self.logs = self.directory / "logs"
        self.logs.mkdir()
        self.logs.chmod(0o1777)
        self._opened: list[SlurmBackend] = []

    def open(self, gateway: str | None = None, **settings: Any) -> SlurmBackend:
        timeout = settings.pop("timeout", 30.0)
        jobs = {"log_directory": str(self.logs), **settings.pop("jobs", {})}
        backend = SlurmBackend(
            "slurm",
            gateway or self.gateway,
            self.directory / "notes",
            slurm_commands(self.cluster.bin, self.cluster.config, timeout),
            jobs=SlurmJobSettings.model_validate(jobs),
            allow_root=True,
            scratch=self.cluster.directory / "scratch",
            **{"acting": self.acting, **settings},
        )
        self._opened.append(backend)
        return backend

    def place(self, job: Job) -> Path | None:
        """The private directory of a job, once it is there."""
        pattern = f"penstock-{job.batch.tag}-{job.index}.*/job"
        return next((self.cluster.directory / "scratch").glob(pattern), None)

    async def aclose(self) -> None:
        gateways = {backend._gateway for backend in self._opened} | {self.gateway}
        for gateway in gateways:
            await end_all(self.open(gateway))
        for backend in self._opened:
            await backend.aclose()
        await asyncio.to_thread(shutil.rmtree, self.directory)
