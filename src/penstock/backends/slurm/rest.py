"""Acting for users through slurmrestd, for a server without any right on its own machine.

Only what needs a user's rights goes this way; looking stays one ``squeue``. Facts about slurmrestd
22.05, all observed: its errors have the commands' own words but come as HTTP 500 whatever they
mean, so words decide here as well; a wrong token reads "Zero Bytes were transmitted"; a range of
tasks (``12_0-3``) can be cancelled at once, a list cannot; nobody's files can be read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from penstock.backends.command import SYSTEM_PATH
from penstock.backends.owner import account
from penstock.backends.slurm import parse
from penstock.backends.slurm.acting import Output
from penstock.backends.slurm.sharing import ALONE, parse_comment
from penstock.backends.slurm.tokens import Tokens
from penstock.model.errors import Absent, BackendError, Rejected, Unavailable, Uncertain
from penstock.settings.slurm_rest import API, fields

AT_ONCE = 16
"""Requests at a time."""

_ENVIRONMENT = {"PATH": SYSTEM_PATH, "LC_ALL": "C"}
"""What ``sbatch`` would have handed over; the job brings its own."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What slurmrestd answered: HTTP status, Slurm's words (a line each), and the whole."""

    status: int
    words: str
    body: Mapping[str, Any]


class Rest:
    """See ``penstock.backends.slurm.acting.Acting``. ``url``: as in the settings.

    ``timeout``: seconds that one request may take.
    """

    def __init__(self, url: str, tokens: Tokens, *, timeout: float) -> None:
        self._socket = url.removeprefix("unix:") if url.startswith("unix:") else None
        self._base = f"{'http://localhost' if self._socket else url}/slurm/{API}"
        self._where = url
        self._tokens = tokens
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def submit(self, owner: str, words: Sequence[str], script: bytes) -> None:
        try:
            job = fields(words)
        except ValueError as error:
            raise Rejected(f"{error}, by which this gateway submits jobs") from None
        said = parse_comment(str(job.get("comment")))
        if said is not None and said[1] is not ALONE:
            raise Rejected("several workers in one job cannot be had by slurmrestd")
        try:
            text = script.decode()
        except UnicodeDecodeError:
            raise Rejected("slurmrestd takes no script that is not UTF-8 text") from None
        body = {"script": text, "job": {**job, "environment": _ENVIRONMENT}}
        reply = await self._ask("POST", "job/submit", owner, body)
        failure = submit_error(reply)
        if failure is not None:
            raise failure

    async def cancel(
        self, owner: str, arrays: Mapping[str, Collection[int]], signal: int = 0
    ) -> None:
        if signal:
            raise Unavailable("slurmrestd sends no signal to a job's script")
        names = [
            f"{base}_{part}"
            for base, tasks in arrays.items()
            for part in parse.ranges(tasks).split(",")
        ]
        results = await asyncio.gather(
            *(self._ask("DELETE", f"job/{name}", owner) for name in names), return_exceptions=True
        )
        for result in results:
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

    async def check(self, owner: str) -> str:
        # Cancelling what cannot be is the one request whose answer tells a bad token.
        try:
            failure = cancel_error(await self._ask("DELETE", "job/0", owner))
        except BackendError as error:
            return str(error)
        return "" if failure is None else str(failure)

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(
        self, method: str, path: str, owner: str, body: Mapping[str, Any] | None = None
    ) -> Reply:
        """One request as a user. Raises Rejected, Unavailable or Absent (not sent), or Uncertain."""
        name = (await asyncio.to_thread(account, owner)).pw_name
        headers = {
            "X-SLURM-USER-NAME": name,
            "X-SLURM-USER-TOKEN": await self._tokens.of(name),
        }
        session = self._open()
        url = f"{self._base}/{path}"
        try:
            async with session.request(
                method, url, json=body, headers=headers, allow_redirects=False
            ) as response:
                return read_reply(response.status, await response.read())
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or "no connection"
            raise Unavailable(f"slurmrestd at {self._where} cannot be reached: {reason}") from None
        except asyncio.TimeoutError:
            raise Uncertain(f"slurmrestd at {self._where} did not answer in time") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Uncertain(f"slurmrestd at {self._where} broke off: {error}") from None

    def _open(self) -> aiohttp.ClientSession:
        """Made with the first request, as it belongs to the running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=AT_ONCE)
                if self._socket is None
                else aiohttp.UnixConnector(self._socket, limit=AT_ONCE),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def read_reply(status: int, data: bytes) -> Reply:
    """Slurm's words from an answer of any kind."""
    try:
        body = json.loads(data)
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    errors = body.get("errors")
    lines = [_words(each) for each in errors] if isinstance(errors, list) else []
    if not lines and status != 200:
        lines = [data[:500].decode(errors="replace")]
    return Reply(status, "\n".join(filter(None, lines)), body)


def _words(error: object) -> str:
    if not isinstance(error, dict):
        return ""
    told = error.get("description") or error.get("error") or ""
    return " ".join(str(told).split())


def _denied(reply: Reply) -> Absent | None:
    """About tokens, so about one user: Slurm drops the connection of whoever brings a wrong one."""
    if reply.status in (401, 403):
        return Absent(f"slurmrestd did not accept the token: {parse.said(reply.words)}")
    return None


def submit_error(reply: Reply) -> BackendError | None:
    """What an answer to a submission means; None when the jobs were taken."""
    denied = _denied(reply)
    if denied is not None:
        return denied
    words = parse.said(reply.words)
    if reply.status == 200:  # with words beside it, they are a warning
        return None if reply.body.get("job_id") else Uncertain(f"slurmrestd named no job: {words}")
    if "Zero Bytes" in words:
        return Uncertain(f"Slurm did not answer: {words} (also said when a token is not valid)")
    if reply.body.get("errors") and "Unspecified error" not in words:
        return parse.submit_error(1, reply.words)
    return Uncertain(f"slurmrestd answered with {reply.status}: {words}")


def cancel_error(reply: Reply) -> Unavailable | None:
    """What an answer to a cancellation means; jobs that are over already are no failure."""
    if reply.status == 200:
        return None
    denied = _denied(reply)
    if denied is not None:
        return Unavailable(str(denied))
    return parse.cancel_error(1, reply.words)
