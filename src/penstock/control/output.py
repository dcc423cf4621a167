"""A job's output, from wherever it can be had: the batch system, its scheduler, or its last words.

A batch system shows it where gateway and nodes share a directory. Where they do not, a worker that
runs is asked through its scheduler, which knows what its Dask has logged; of one that is over there
is what its agent sent at the end. Nothing of it is fetched before somebody asks.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any

from penstock.control.channel import ExitReport, printable
from penstock.control.entry import Entry, Link
from penstock.control.obituary import find_job
from penstock.control.site import Site
from penstock.control.tails import Tails
from penstock.model.errors import Invalid, NotFound
from penstock.model.ids import worker_name

ANSWER_LIMIT = 10.0
"""Seconds that a scheduler has to tell what a worker logged."""

_MOST = 200_000


class Outputs:
    """See the module. ``gateway``: whose jobs these are."""

    def __init__(self, sites: Mapping[str, Site], gateway: str, tails: Tails) -> None:
        self._sites = sites
        self._gateway = gateway
        self._tails = tails
        self._ids = itertools.count(1)
        self._questions: dict[int, tuple[Link, asyncio.Future[str]]] = {}

    async def logs(self, entry: Entry, job: str, tail: int) -> str:
        """The last ``tail`` bytes, or what there is in their stead.

        Raises NotFound for a job that the cluster never had, Unavailable when the batch system
        does not answer.
        """
        row, index = entry.find(job)
        if row is None:
            raise NotFound(f"Cluster {entry.cluster.name} has no job {job!r}.")
        site = self._sites[row.backend]
        found = find_job(site, self._gateway, row, index)
        text = await site.backend.logs(found, tail=tail)
        if not text:
            text = await asyncio.to_thread(self._tails.find, entry.cluster.name, job)
        if not text and entry.link is not None and found.alive:
            text = await self._ask(entry.link, job, tail)
        return text[-tail:]

    async def keep(self, entry: Entry, said: ExitReport) -> None:
        """Keep the last words of a job of this cluster."""
        name = worker_name(said.sequence, said.index)
        job = f"s{name[1:]}" if said.scheduler else name
        if entry.find(job)[0] is not None:
            await asyncio.to_thread(self._tails.keep, entry.cluster.name, job, said.tail)

    def answered(self, link: Link, message: Mapping[str, Any]) -> None:
        """A scheduler tells what one of its processes logged. Raises Invalid."""
        text, number = message.get("text"), message.get("id")
        if not isinstance(text, str) or not isinstance(number, int):
            raise Invalid("output needs an id and a text.")
        asked = self._questions.get(number)
        if asked is not None and asked[0] is link and not asked[1].done():
            asked[1].set_result(printable(text[-_MOST:], newlines=True))

    async def _ask(self, link: Link, job: str, tail: int) -> str:
        number = next(self._ids)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._questions[number] = link, answer
        link.send({"op": "output", "id": number, "job": job, "size": min(tail, _MOST)})
        try:
            return await asyncio.wait_for(answer, ANSWER_LIMIT)
        except asyncio.TimeoutError:
            return ""
        finally:
            del self._questions[number]
