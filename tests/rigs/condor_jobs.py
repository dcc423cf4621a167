"""The HTCondor backend's face for the contract suite, over the session's real pool."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

from penstock.backends.htcondor import Acting, HTCondorBackend, condor_commands
from penstock.model.ids import new_gateway_id
from penstock.model.job import Job
from penstock.settings.htcondor import HTCondorJobSettings
from rigs.backends import Probes, end_all
from rigs.condor import DOMAIN, Condor


class CondorRig(Probes):
    """The HTCondor backend under the contract suite, with jobs of one user.

    ``way``: "itself", "behalf" or "token"; with the latter two, files travel by the network.
    """

    def __init__(self, pool: Condor, owner: str, way: str = "itself") -> None:
        self.gateway = new_gateway_id()
        self.owner = owner
        self.pool = pool
        self.way = way
        self.directory = Path(tempfile.mkdtemp(prefix="pk-notes-", dir="/tmp"))
        self.directory.chmod(0o711)
        self._opened: list[HTCondorBackend] = []
        self._places: dict[tuple[str, int], Path] = {}

    def open(self, gateway: str | None = None, **settings: Any) -> HTCondorBackend:
        settings = {"spool": self.way != "itself", "grace": 10.0, **settings}
        jobs = HTCondorJobSettings.model_validate(settings.pop("jobs", {}))
        backend = HTCondorBackend(
            "htcondor",
            gateway or self.gateway,
            self.directory / "notes",
            self.directory / "files",
            condor_commands(self.pool.bin, self.pool.config, settings.pop("timeout", 30.0)),
            jobs=jobs,
            acting=Acting(self.way, DOMAIN, "POOL", settings.pop("lifetime", 3600.0)),
            allow_root=True,
            **settings,
        )
        self._opened.append(backend)
        return backend

    def place(self, job: Job) -> Path | None:
        """The private directory of a job, once it is there."""
        key = job.batch.tag, job.index
        if key not in self._places:
            sandbox = self.pool.sandbox(*key)
            if sandbox is None:
                return None
            self._places[key] = sandbox / "penstock"
        return self._places[key]

    async def aclose(self) -> None:
        gateways = {backend._gateway for backend in self._opened} | {self.gateway}
        for gateway in gateways:
            await end_all(self.open(gateway))
        for backend in self._opened:
            await backend.aclose()
        await asyncio.to_thread(shutil.rmtree, self.directory)
