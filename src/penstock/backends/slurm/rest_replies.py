"""What slurmrestd's answers mean. Pure.

Its errors have the commands' own words but come with any status, so words decide here as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.backends.slurm import parse
from penstock.model.errors import Absent, BackendError, Unavailable, Uncertain
from penstock.settings.slurm_rest_words import VERSIONS


@dataclass(frozen=True, slots=True)
class Reply:
    """What slurmrestd answered: HTTP status, Slurm's words (a line each), and the whole."""

    status: int
    words: str
    body: Mapping[str, Any]


def read_reply(status: int, data: bytes) -> Reply:
    """Slurm's words from an answer of any kind."""
    try:
        body = json.loads(data)
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    lines = [_words(each) for each in _each(body, "errors")]
    # Of jobs that could not be cancelled, while the whole is a success (Slurm 24.11).
    lines += [_words(each.get("error")) for each in _each(body, "status")]
    if not lines and status != 200:
        lines = [data[:500].decode(errors="replace")]
    return Reply(status, "\n".join(filter(None, lines)), body)


def _each(body: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = body.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _words(error: object) -> str:
    """What went wrong, and why where only Slurm 24.11's second field says it."""
    if not isinstance(error, dict):
        return ""
    what = str(error.get("description") or error.get("string") or "")
    why = str(error.get("error") or "")
    told = what if why in what else f"{what}: {why}" if what else why
    return " ".join(told.split())


def _denied(reply: Reply) -> Absent | None:
    """About tokens, so about one user: Slurm 22.05 drops the connection of whoever brings a wrong
    one, 24.11 answers 511."""
    if reply.status in (401, 403, 511):
        return Absent(f"slurmrestd did not accept the token: {parse.said(reply.words)}")
    return None


def submit_error(reply: Reply) -> BackendError | None:
    """What an answer to a submission means; None when the jobs were taken."""
    denied = _denied(reply)
    if denied is not None:
        return denied
    words = parse.said(reply.words)
    if reply.status == 404:
        return Unavailable(f"slurmrestd does not speak the version that it did: {words}")
    if reply.status == 200:  # with words beside it, they are a warning
        return None if reply.body.get("job_id") else Uncertain(f"slurmrestd named no job: {words}")
    if "Zero Bytes" in words:
        return Uncertain(f"Slurm did not answer: {words} (also said when a token is not valid)")
    if reply.body.get("job_id"):  # 24.11 submits although it did not understand all
        return Uncertain(f"slurmrestd took the job and complained: {words}")
    if reply.body.get("errors") and "Unspecified error" not in words:
        return parse.submit_error(1, reply.words)
    return Uncertain(f"slurmrestd answered with {reply.status}: {words}")


def cancel_error(reply: Reply) -> Unavailable | None:
    """What an answer to a cancellation means; jobs that are over already are no failure."""
    denied = _denied(reply)
    if denied is not None:
        return Unavailable(str(denied))
    if reply.status == 200 and not reply.words:
        return None
    return parse.cancel_error(1, reply.words)


def version_of(reply: Reply) -> str | None:
    """The best version that both sides speak, from the list of slurmrestd's pages (OpenAPI); None
    when it is no such list, or there is none."""
    has = versions(reply)
    return next((version for version in VERSIONS if version in has), None)


def versions(reply: Reply) -> list[str]:
    """The versions in which slurmrestd takes jobs."""
    paths = reply.body.get("paths")
    found = (str(path).split("/") for path in paths) if isinstance(paths, dict) else ()
    return sorted(
        words[2] for words in found if words[1:2] == ["slurm"] and words[3:] == ["job", "submit"]
    )
