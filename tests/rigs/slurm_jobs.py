"""The Slurm backend's face for the contract suite, over the session's real cluster."""

from __future__ import annotations

import asyncio
import base64
import getpass
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from penstock.backends.slurm import SlurmBackend, slurm_commands
from penstock.backends.slurm.acting import Acting
from penstock.model.ids import new_gateway_id
from penstock.model.job import Job
from penstock.settings.backends import SlurmJobSettings
from rigs.backends import Seen, observe_until, until
from rigs.slurm import Slurm


class SlurmRig:
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
            slurm_commands(None, self.cluster.config, timeout),
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
