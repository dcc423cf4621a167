"""Acting for users through slurmrestd, for a server without any right on its own machine.

Only what needs a user's rights goes this way; looking stays one ``squeue``. What slurmrestd speaks is
asked once, and again when it no longer knows that. Facts, all observed, of 22.05: a wrong token reads
"Zero Bytes were transmitted"; a range of tasks (``12_0-3``) can be cancelled at once, a list cannot.
Of 24.11 and 26.05: one request cancels all that it names. Of 24.11: asked so for a job of *another*
user, slurmctld hangs, so only jobs that ``squeue`` has just shown as the owner's are named. Of all:
nobody's files can be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from penstock.backends.command import SYSTEM_PATH
from penstock.backends.owner import account
from penstock.backends.slurm import parse, rest_replies
from penstock.backends.slurm.acting import Output, Said
from penstock.backends.slurm.rest_http import Http
from penstock.backends.slurm.rest_replies import Reply, cancel_error, read_reply, submit_error
from penstock.backends.slurm.sharing import ALONE, parse_comment
from penstock.backends.slurm.tokens import Tokens
from penstock.model.errors import BackendError, Rejected, Unavailable, Uncertain
from penstock.settings.slurm_rest_words import OLD, VERSIONS, fields

_ENVIRONMENT = {"PATH": SYSTEM_PATH, "LC_ALL": "C"}
"""What ``sbatch`` would have handed over; the job brings its own."""


class Rest:
    """See ``penstock.backends.slurm.acting.Acting``. ``url``: as in the settings.

    ``timeout``: seconds that one request may take.
    """

    def __init__(self, url: str, tokens: Tokens, *, timeout: float) -> None:
        self._http = Http(url, timeout)
        self._where = url
        self._version: str | None = None
        self._tokens = tokens
        self.rehearses = False

    async def submit(self, owner: str, words: Sequence[str], script: bytes) -> None:
        version = await self._speaks(owner)
        try:
            job = fields(words, version)
        except ValueError as error:
            raise Rejected(f"{error} {version}, by which this gateway submits jobs") from None
        said = parse_comment(str(job.get("comment")))
        if said is not None and said[1] is not ALONE:
            raise Rejected("several workers in one job cannot be had by slurmrestd")
        try:
            text = script.decode()
        except UnicodeDecodeError:
            raise Rejected("slurmrestd takes no script that is not UTF-8 text") from None
        reply = await self._ask(
            "POST", f"slurm/{version}/job/submit", owner, _order(version, job, text)
        )
        failure = submit_error(reply)
        if failure is not None:
            raise failure

    async def cancel(
        self, owner: str, arrays: Mapping[str, Collection[int]], signal: int = 0
    ) -> None:
        if signal:
            raise Unavailable("slurmrestd sends no signal to a job's script")
        version = await self._speaks(owner)
        ranges = {base: parse.ranges(tasks) for base, tasks in arrays.items() if tasks}
        if version != OLD:
            names = [f"{base}_[{parts}]" for base, parts in ranges.items()]
            if not names:
                return  # Slurm would take that for all of the user's jobs
            asked = [self._ask("DELETE", f"slurm/{version}/jobs/", owner, {"jobs": names})]
        else:
            asked = [
                self._ask("DELETE", f"slurm/{version}/job/{base}_{part}", owner)
                for base, parts in ranges.items()
                for part in parts.split(",")
            ]
        for result in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(result, Reply):
                failure = cancel_error(result)
                if failure is not None:
                    raise failure
            elif isinstance(result, BackendError):
                raise Unavailable(str(result))
            else:
                raise result

    async def tail(self, owner: str, output: Output, index: int, limit: int) -> str:
        return ""  # read with our own rights, a user's link could lead to what is ours

    async def remove(self, owner: str, output: Output) -> None:
        """It stays, and is its owner's to delete."""

    async def rehearse(self, owner: str, words: Sequence[str], script: bytes) -> Said:
        raise Rejected("slurmrestd does not say when a job would start")

    async def check(self, owner: str) -> str:
        try:
            version = await self._speaks(owner)
            # 22.05 tells a bad token only of who cancels, be it what nobody can.
            method, page = ("DELETE", "job/0") if version == OLD else ("GET", "diag/")
            failure = cancel_error(await self._ask(method, f"slurm/{version}/{page}", owner))
        except BackendError as error:
            return str(error)
        return "" if failure is None else str(failure)

    async def aclose(self) -> None:
        self._http.close()

    async def _speaks(self, owner: str) -> str:
        """The version to speak. Raises Unavailable or Absent without one."""
        if self._version is None:
            try:
                reply = await self._ask("GET", "openapi/v3", owner)
            except Uncertain as error:  # nothing was wanted of it yet
                raise Unavailable(str(error)) from None
            self._version = rest_replies.version_of(reply)
            if self._version is None:
                has = ", ".join(rest_replies.versions(reply)) or f"none (HTTP {reply.status})"
                raise Unavailable(
                    f"slurmrestd at {self._where} must speak one of {', '.join(VERSIONS)}, and has {has}"
                )
        return self._version

    async def _ask(
        self, method: str, path: str, owner: str, body: Mapping[str, Any] | None = None
    ) -> Reply:
        """One request as a user. Raises Rejected, Unavailable or Absent (not sent), or Uncertain."""
        name = (await asyncio.to_thread(account, owner)).pw_name
        headers = {
            "X-SLURM-USER-NAME": name,
            "X-SLURM-USER-TOKEN": await self._tokens.of(name),
        }
        status, data = await self._http.ask(method, path, headers, body)
        if status == 404:  # another Slurm than before, maybe
            self._version = None
        return read_reply(status, data)


def _order(version: str, job: Mapping[str, object], script: str) -> Mapping[str, object]:
    """What a submission says."""
    if version == OLD:
        return {"script": script, "job": {**job, "environment": _ENVIRONMENT}}
    environment = [f"{name}={value}" for name, value in _ENVIRONMENT.items()]
    return {"job": {**job, "script": script, "environment": environment}}
