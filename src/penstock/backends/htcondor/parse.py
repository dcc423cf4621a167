"""What ``condor_q`` says, and what it means. Pure.

Formats and words were observed with HTCondor 23.9 and 25.14. A job that is over stays in the queue
for a while (``leave_in_queue``), so one question tells of the living and of how others ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from penstock.backends.codes import code_words
from penstock.backends.htcondor import idle
from penstock.backends.htcondor.submit import NOT_ALLOWED, SPOOLING, USER_HOLDS
from penstock.model.errors import Unavailable
from penstock.model.ids import BatchId
from penstock.model.job import Exit, Job, Phase

Ad = Mapping[str, Any]

ATTRIBUTES = (
    *("ClusterId", "ProcId", "Owner", "JobStatus", "LastJobStatus", "PenstockTag", "QDate"),
    *("PenstockTime", "JobCurrentStartDate", "RemoteHost", "LastRemoteHost"),
    *("HoldReason", "HoldReasonCode", "LastHoldReason", "LastHoldReasonCode", "RemoveReason"),
    *("ExitCode", "ExitBySignal", "ExitSignal", "VacateReason", "VacateReasonCode"),
    *("LastRejMatchReason", "JobCurrentReconnectAttempt", "NumShadowStarts"),
    *("JobFinishedHookDone", *idle.ATTRIBUTES),
)
"""Of each job; see "Job ClassAd Attributes" in HTCondor's manual."""

IDLE, RUNNING, REMOVED, COMPLETED, HELD, TRANSFERRING, SUSPENDED = range(1, 8)
"""JobStatus."""

TIME_LIMITS = (46, 47)
"""HoldReasonCode of a job that was longer there, or ran longer, than allowed."""

_LOSSES = (0, 1008)
"""VacateReasonCode of runs that nobody ended: unknown, "Job not found at execution machine"."""

_PERIODIC = "The job attribute PeriodicRemove expression"
_SAID_MOST = 500


def look_arguments(gateway: str, batch: BatchId | None = None) -> list[str]:
    """The arguments of ``condor_q`` for ``parse_look``; ``batch``: only this one."""
    prefix = f"p-{gateway}-"
    mine = f'substr(PenstockTag, 0, {len(prefix)}) =?= "{prefix}"'
    if batch is not None:
        mine = f'PenstockTag =?= "{batch.tag}"'
    return ["-allusers", "-json", "-attributes", ",".join(ATTRIBUTES), "-constraint", mine]


def parse_look(data: bytes, gateway: str) -> list[Job]:
    """The jobs of a gateway in an answer of ``condor_q``, which is empty when there are none.

    A job of the same batch and index that lives wins over one that is over. Raises Unavailable for
    a garbled answer.
    """
    if not data.strip():
        return []
    try:
        ads = json.loads(data.decode(errors="replace"))
    except ValueError:
        raise Unavailable("condor_q's answer is not complete") from None
    found: dict[tuple[BatchId, int, str], tuple[Ad, Job]] = {}
    for ad in ads:
        batch = BatchId.parse(str(ad.get("PenstockTag")))
        if batch is None or batch.gateway != gateway or "ProcId" not in ad:
            continue
        job = to_job(batch, ad)
        key = (job.batch, job.index, job.owner)
        if key not in found or not found[key][1].alive:
            found[key] = ad, job
    return list(idle.explained(found.values()))


def to_job(batch: BatchId, ad: Ad) -> Job:
    """One job as its ad tells."""
    phase, exit, code, reason = _judge(ad)
    host = str(ad.get("RemoteHost") or ad.get("LastRemoteHost") or "")
    waits = phase in (Phase.QUEUED, Phase.HELD)
    since = None if waits else _number(ad, "JobCurrentStartDate")
    limit = _number(ad, "PenstockTime")
    runs = phase is Phase.RUNNING and since is not None and limit is not None
    return Job(
        batch=batch,
        index=int(ad["ProcId"]),
        native=f"{ad['ClusterId']}.{ad['ProcId']}",
        owner=str(ad.get("Owner")),
        phase=phase,
        exit=exit,
        exit_code=code,
        reason=reason,
        node=host.rpartition("@")[2],
        since=since,
        submitted=_number(ad, "QDate"),
        ends=since + limit if runs and since is not None and limit is not None else None,
    )


Judgement = tuple[Phase, Exit | None, int | None, str]


def _judge(ad: Ad) -> Judgement:
    """Phase, exit, exit code and reason."""
    status = ad.get("JobStatus")
    if status == COMPLETED:
        return _completed(ad)
    if status in (REMOVED, HELD) and ad.get("RemoteHost"):
        return Phase.ENDING, None, None, _words(ad, "RemoveReason", "HoldReason")
    if status == REMOVED:
        return _removed(ad)
    if status == HELD:
        return _held(ad, "HoldReason", kept=not _begun(ad))
    if status == IDLE:
        if _begun(ad):
            return _evicted(ad)
        return Phase.QUEUED, None, None, _words(ad, "LastRejMatchReason")
    if status == RUNNING and ad.get("JobCurrentStartDate") and ad.get("RemoteHost"):
        if ad.get("JobCurrentReconnectAttempt"):
            return Phase.UNKNOWN, None, None, "the machine does not answer; HTCondor tries again"
        return Phase.RUNNING, None, None, ""
    if status == RUNNING:  # its shadow is about to start, and its ad is not whole yet
        return Phase.QUEUED, None, None, ""
    if status == TRANSFERRING:
        return Phase.ENDING, None, None, ""
    words = "suspended by its machine" if status == SUSPENDED else f"JobStatus is {status}"
    return Phase.UNKNOWN, None, None, words


def _completed(ad: Ad) -> Judgement:
    code = _exit_code(ad)
    if code == 0:
        return Phase.EXITED, Exit.DONE, 0, ""
    return Phase.EXITED, Exit.FAILED, code, _code_words(code)


def _exit_code(ad: Ad) -> int | None:
    if ad.get("ExitBySignal") is True:
        number = _number(ad, "ExitSignal")
        return None if number is None else 128 + int(number)
    code = _number(ad, "ExitCode")
    return None if code is None else int(code) & 0xFF


def _removed(ad: Ad) -> Judgement:
    """Why: HTCondor's own rules as we wrote them, the site's, or a person."""
    words = _words(ad, "RemoveReason")
    if words.startswith(_PERIODIC):
        if ad.get("LastJobStatus") == RUNNING and _timed_out(ad):
            return Phase.EXITED, Exit.TIME_LIMIT, None, "HTCondor removed it after its time"
        if ad.get("LastHoldReasonCode") == SPOOLING:
            return Phase.EXITED, Exit.FAILED, None, "its files never reached the schedd"
        if "LastHoldReasonCode" in ad:
            return _held(ad, "LastHoldReason", kept=False)
        if ad.get("LastJobStatus") == IDLE and _begun(ad):  # ours, and not one of the site
            return _evicted(ad)
    return Phase.EXITED, Exit.CANCELLED, None, f"HTCondor says: {words or 'removed'}"


def _held(ad: Ad, name: str, *, kept: bool) -> Judgement:
    """A hold, and what follows: only a job that has not begun, and that a person holds, is kept."""
    code, words = ad.get(f"{name}Code"), _words(ad, name)
    if code == SPOOLING:
        return Phase.QUEUED, None, None, "its files are on the way to the schedd"
    if code in USER_HOLDS:
        if kept:
            return Phase.HELD, None, None, words
        return Phase.EXITED, Exit.CANCELLED, None, f"HTCondor held it: {words}"
    exit = Exit.TIME_LIMIT if code in TIME_LIMITS else Exit.FAILED
    return Phase.EXITED, exit, None, f"HTCondor held it: {words or f'code {code}'}"


def _evicted(ad: Ad) -> Judgement:
    """A run that was ended from the machine's side. It is not run again."""
    words = _words(ad, "VacateReason")
    if (_number(ad, "VacateReasonCode") or 0) in _LOSSES:
        return Phase.EXITED, Exit.LOST, None, f"HTCondor says: {words}" if words else ""
    return Phase.EXITED, Exit.PREEMPTED, None, f"HTCondor evicted it {words}".strip()


def _timed_out(ad: Ad) -> bool:
    """Whether it ran as long as it was to run."""
    names = ("JobCurrentStartDate", "JobFinishedHookDone", "PenstockTime")
    start, end, limit = (_number(ad, name) for name in names)
    return start is not None and end is not None and limit is not None and end - start >= limit


def _begun(ad: Ad) -> bool:
    """As in PeriodicRemove, see ``submit``."""
    return bool(ad.get("NumShadowStarts"))


def _code_words(code: int | None) -> str:
    """What an exit code tells people."""
    if code is None:
        return "it ended, and HTCondor does not say how"
    if code == NOT_ALLOWED:
        return "its Python is there on the node, and this user may not run it (exit code 126)"
    return code_words(code)


def _words(ad: Ad, *names: str) -> str:
    """The first of these that says something, in one line."""
    for name in names:
        text = " ".join(str(ad.get(name) or "").split())
        if text:
            return text[:_SAID_MOST]
    return ""


def _number(ad: Ad, name: str) -> float | None:
    value = ad.get(name)
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if good else None  # type: ignore[arg-type]


def removal(batch: BatchId, owner: str, cluster: int, procs: Iterable[int]) -> str:
    """The constraint that names exactly these jobs, also if the schedd forgot them meanwhile."""
    spans = " || ".join(
        f"ProcId == {low}" if low == high else f"(ProcId >= {low} && ProcId <= {high})"
        for low, high in _spans(procs)
    )
    owned = json.dumps(owner)
    return (
        f'(ClusterId == {cluster} && PenstockTag =?= "{batch.tag}" && Owner == {owned} '
        f"&& ({spans}))"
    )


def _spans(numbers: Iterable[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
