"""A relay and its notebooks in one process: real hands on a real backend, without the network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.backends.base import Backend
from penstock.backends.relay.backend import RelayBackend
from penstock.backends.relay.holder import Holder
from penstock.backends.relay.wire import Hello
from penstock.model.job import Batch, Job
from penstock.notebook.hands import Hands
from rigs.backends import LocalRig, Seen


class Notebook:
    """One notebook of a cluster; everything passes through JSON, as on the wire."""

    def __init__(self, backend: Backend, gateway: str, cluster: str, owner: str) -> None:
        self.hands = Hands(backend, gateway, cluster, owner)
        self.holder = Holder(Hello("here", "a notebook"), self.receive)
        self.heard: list[Mapping[str, Any]] = []
        self.deaf = False
        self._tasks: set[asyncio.Task[None]] = set()

    def receive(self, message: Mapping[str, object]) -> None:
        said = json.loads(json.dumps(message))
        self.heard.append(said)
        if "id" in said and not self.deaf:
            task = asyncio.ensure_future(self._answer(said))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, said: Mapping[str, Any]) -> None:
        answer = await self.hands.answer(said)
        self.holder.answered(json.loads(json.dumps({**answer, "id": said["id"]})))


class RelayOfOne(RelayBackend):
    """Every cluster has its notebook as soon as something is submitted for it."""

    def __init__(self, rig: RelayRig, gateway: str) -> None:
        super().__init__("notebook", gateway, rig.memory(gateway))
        self._rig = rig
        self._backend = rig.local.open(gateway)

    def serve(self, cluster: str) -> None:
        notebook = Notebook(self._backend, self.gateway, cluster, self._rig.owner)
        self.attach(cluster, self._rig.owner, notebook.holder)

    async def submit(self, batch: Batch) -> None:
        if self.refuses(batch.id.cluster):
            self.serve(batch.id.cluster)
        await super().submit(batch)

    async def aclose(self) -> None:
        await super().aclose()
        await self._backend.aclose()


class RelayRig:
    """The contract's face of it: jobs are local ones."""

    def __init__(self) -> None:
        self.local = LocalRig()
        self.gateway = self.local.gateway
        self.owner = self.local.owner

    def memory(self, gateway: str) -> Path:
        return self.local.directory / f"notebook-{gateway}.json"

    def open(self, gateway: str | None = None) -> RelayOfOne:
        made = RelayOfOne(self, gateway or self.gateway)
        for cluster in made.clusters:
            made.serve(cluster)
        return made

    async def seen(self, job: Job) -> Seen:
        return await self.local.seen(job)

    async def finish(self, job: Job, code: int) -> None:
        await self.local.finish(job, code)

    async def aclose(self) -> None:
        await self.local.aclose()
