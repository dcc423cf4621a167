"""One face for every backend under the contract suite: make it, and act as its jobs."""

from __future__ import annotations

import asyncio
import base64
import getpass
import json
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from penstock.backends.base import Backend
from penstock.backends.fake import FakeBackend
from penstock.backends.local import LocalBackend
from penstock.model.ids import BatchId, new_cluster_name, new_gateway_id
from penstock.model.job import Batch, Job, Role, Snapshot

T = TypeVar("T")
PROBE = Path(__file__).with_name("probe.py")
PYTHON = "/usr/bin/python3"
"""Readable for every user, as the tests' own interpreter may not be."""


@dataclass
class Seen:
    """What one job found when it began."""

    env: dict[str, bytes]
    files: dict[str, tuple[int, bytes]]
    more: dict[str, Any] = field(default_factory=dict)


class BackendRig(Protocol):
    """What the contract suite needs of each backend."""

    gateway: str
    owner: str

    def open(self, gateway: str | None = None) -> Backend:
        """A new object over the same batch system, as after a restart."""

    async def seen(self, job: Job) -> Seen:
        """What a job was given, once it runs."""

    async def finish(self, job: Job, code: int) -> None:
        """Let a running job exit with a code, or by signal ``-code``."""

    async def aclose(self) -> None:
        """End everything, and leave nothing."""


class Probes:
    """Speaks with ``probe.py`` in the jobs of a backend, by the files in their directories."""

    def place(self, job: Job) -> Path | None:
        """The private directory of a job, once it is there."""
        raise NotImplementedError

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


async def end_all(backend: Backend) -> None:
    """Cancel all jobs of a backend's gateway, and wait until they ended."""
    snapshot = await backend.observe()
    await backend.cancel([job for job in snapshot.jobs if job.alive])
    # Slurm asks a node again only after a while whether a job is over, where its word was lost.
    await observe_until(
        backend, lambda jobs: not any(job.alive for job in jobs), "all jobs ended", seconds=120
    )


def make_batch(
    rig: BackendRig,
    count: int = 1,
    *,
    arguments: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    files: Mapping[str, bytes] | None = None,
    **changes: object,
) -> Batch:
    """A batch of probes."""
    batch = Batch(
        id=BatchId(rig.gateway, new_cluster_name(), 0),
        owner=rig.owner,
        role=Role.WORKER,
        count=count,
        command=(PYTHON, "-I", "probe.py", *arguments),
        env=env or {},
        files={"probe.py": PROBE.read_bytes(), **(files or {})},
    )
    return replace(batch, **changes)  # type: ignore[arg-type]


async def until(
    look: Callable[[], T | None], what: str, *, seconds: float = 30.0, pause: float = 0.01
) -> T:
    """Wait until ``look`` finds something."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(pause)
    return found


async def observe_until(
    backend: Backend, good: Callable[[list[Job]], bool], what: str, *, seconds: float = 30.0
) -> list[Job]:
    """Look again and again until the jobs are as they should be; sorted by batch and index."""
    deadline = time.monotonic() + seconds
    while True:
        snapshot: Snapshot = await backend.observe()
        jobs = sorted(snapshot.jobs, key=lambda job: (job.batch, job.index))
        if good(jobs):
            return jobs
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}, but {jobs}"
        await asyncio.sleep(0.02)


class FakeRig:
    """The fake: its batch system lives in the object, so a restart gives the same one."""

    def __init__(self) -> None:
        self.gateway = new_gateway_id()
        self.owner = "alice"
        self._systems: dict[str, FakeBackend] = {}

    def open(self, gateway: str | None = None) -> FakeBackend:
        return self._systems.setdefault(gateway or self.gateway, FakeBackend())

    async def seen(self, job: Job) -> Seen:
        system = self._systems[job.batch.gateway]
        batch = system.batch(job.batch)
        own = {"PENSTOCK_TAG": batch.id.tag, "PENSTOCK_INDEX": str(job.index)}
        if not await system.logs(job, tail=1):
            system.say(job.batch, job.index, f"out of {job.index}\nerr \N{REPLACEMENT CHARACTER}\n")
        return Seen(
            {key: value.encode() for key, value in {**batch.env, **own}.items()},
            {name: (0o600, content) for name, content in batch.files.items()},
        )

    async def finish(self, job: Job, code: int) -> None:
        reason = f"exited with code {code}" if code >= 0 else signal.Signals(-code).name
        shown = code if code >= 0 else 128 - code
        self._systems[job.batch.gateway].finish(
            job.batch, job.index, code=shown, reason=reason if code else ""
        )

    async def aclose(self) -> None:
        for system in self._systems.values():
            await system.aclose()


class LocalRig(Probes):
    """The local backend in a directory of its own, with jobs of one user."""

    def __init__(self, owner: str | None = None) -> None:
        self.gateway = new_gateway_id()
        self.owner = owner or getpass.getuser()
        self.directory = Path(tempfile.mkdtemp(prefix="pk-jobs-", dir="/tmp"))
        self.directory.chmod(0o711)
        self.jobs = self.directory / "jobs"
        self._opened: list[LocalBackend] = []

    def open(self, gateway: str | None = None, **settings: Any) -> LocalBackend:
        settings = {"grace": 1.0, "allow_root": True, **settings}
        backend = LocalBackend("local", gateway or self.gateway, self.jobs, **settings)
        self._opened.append(backend)
        return backend

    def place(self, job: Job) -> Path:
        return self.jobs / job.batch.tag / str(job.index)

    async def aclose(self) -> None:
        gateways = {backend._gateway for backend in self._opened} | {self.gateway}
        for backend in self._opened:
            await backend.aclose()
        for gateway in gateways:
            backend = LocalBackend("local", gateway, self.jobs, grace=0.0, allow_root=True)
            await end_all(backend)
            await backend.aclose()
        shutil.rmtree(self.directory)
