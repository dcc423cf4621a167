"""The HTCondor backend's face for the contract suite, over the session's real pool."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from penstock.backends.htcondor import Acting, HTCondorBackend, condor_commands
from penstock.model.ids import new_gateway_id
from penstock.model.job import Job
from penstock.settings.htcondor import HTCondorJobSettings
from rigs.backends import Seen, observe_until, until
from rigs.condor import DOMAIN, Condor


class CondorRig:
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

    async def file(self, job: Job, name: str) -> Any:
        """The JSON that a probe wrote."""

        def look() -> Path | None:
            place = self.place(job)
            return place / name if place and (place / name).exists() else None

        path = await until(look, f"{name} of {job.native} exists")
        return json.loads(path.read_text())

    async def seen(self, job: Job) -> Seen:
        data = await self.file(job, "seen.json")
        decode = base64.b64decode
        env = {decode(key).decode(): decode(value) for key, value in data.pop("env").items()}
        files = {name: (mode, decode(text)) for name, (mode, text) in data.pop("files").items()}
        return Seen(env, files, data)

    async def finish(self, job: Job, code: int) -> None:
        await self.seen(job)
        place = self.place(job)
        assert place is not None
        place.joinpath("end.new").write_text(str(code))
        place.joinpath("end.new").chmod(0o644)
        place.joinpath("end.new").rename(place / "end")

    async def aclose(self) -> None:
        gateways = {backend._gateway for backend in self._opened} | {self.gateway}
        for gateway in gateways:
            backend = self.open(gateway)
            snapshot = await backend.observe()
            await backend.cancel([job for job in snapshot.jobs if job.alive])
            await observe_until(
                backend, lambda jobs: not any(job.alive for job in jobs), "all jobs ended"
            )
        for backend in self._opened:
            await backend.aclose()
        await asyncio.to_thread(shutil.rmtree, self.directory)
