"""What HTCondor's commands say, and what it means. Pure.

Formats and words were observed with HTCondor 23.9 and 25.14. A job that is over stays in the queue
for a while (``leave_in_queue``), so one question tells of the living and of how others ended.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterable, Mapping
from typing import Any

from penstock.backends.htcondor.submit import NO_COMMAND, SPOOLING, USER_HOLDS
from penstock.model.errors import BackendError, Full, Rejected, Unavailable, Uncertain
from penstock.model.ids import BatchId
from penstock.model.job import Exit, Job, Phase

Ad = Mapping[str, Any]

ATTRIBUTES = (
    *("ClusterId", "ProcId", "Owner", "JobStatus", "PenstockTag", "PenstockTime", "QDate"),
    *("NumJobStarts", "JobCurrentStartDate", "RemoteHost", "LastRemoteHost", "LastVacateTime"),
    *("HoldReason", "HoldReasonCode", "LastHoldReason", "LastHoldReasonCode", "RemoveReason"),
    *("ExitCode", "ExitBySignal", "ExitSignal", "VacateReason", "VacateReasonCode"),
    *("LastRejMatchReason", "JobDisconnectedDate"),
)
"""Of each job; see "Job ClassAd Attributes" in HTCondor's manual."""

IDLE, RUNNING, REMOVED, COMPLETED, HELD, TRANSFERRING, SUSPENDED = range(1, 8)
"""JobStatus."""

TIME_LIMITS = (46, 47)
"""HoldReasonCode of a job that was longer there, or ran longer, than allowed."""

EVICTED = 1000
"""VacateReasonCode from which on the machine's side ended a run."""

_PERIODIC = "The job attribute PeriodicRemove expression"
_SAID_MOST = 500

_UNAVAILABLE = re.compile(
    r"Can't find address|Failed to connect|Failed to fetch ads|CEDAR:600[0-9]|SECMAN:200[0-9]|"
    r"AUTHENTICATE:|AUTHENTICATION|Failed to (?:start|initiate|create) .*command|"
    r"Unable to (?:locate|contact|establish)|Connection refused|No route to host|Error: \(null\)|"
    r"Neither the environment variable CONDOR_CONFIG|Can't find the condor_schedd|"
    r"Token .*expired|not authorized|PERMISSION DENIED",
    re.IGNORECASE,
)
_FULL = re.compile(r"would exceed MAX_JOBS_PER_OWNER|MAX_JOBS_SUBMITTED", re.IGNORECASE)
_UNCERTAIN = re.compile(
    r"Failed to end classad|Connection closed|Broken pipe|Connection reset|Communication error|"
    r"Failed to (?:spool|transfer)|spoolJobFiles|timed? ?out",
    re.IGNORECASE,
)
_NOT_COMMITTED = re.compile(r".*Failed to commit job submission.*\n?")
"""What follows it is why the schedd refused; alone, it may be only the answer that was lost."""
_ABSENT = re.compile(r"Couldn't find/remove all jobs matching|not found", re.IGNORECASE)


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
    found: dict[tuple[BatchId, int, str], Job] = {}
    for ad in ads:
        batch = BatchId.parse(str(ad.get("PenstockTag")))
        if batch is None or batch.gateway != gateway or "ProcId" not in ad:
            continue
        job = to_job(batch, ad)
        key = (job.batch, job.index, job.owner)
        if key not in found or not found[key].alive:
            found[key] = job
    return list(found.values())


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
        return _held(ad, "HoldReason", kept=not ad.get("NumJobStarts"))
    if status == IDLE:
        if ad.get("NumJobStarts"):
            return _evicted(ad)
        return Phase.QUEUED, None, None, _words(ad, "LastRejMatchReason")
    if status == RUNNING:
        if ad.get("JobDisconnectedDate"):
            return Phase.UNKNOWN, None, None, "its machine does not answer; HTCondor tries again"
        return Phase.RUNNING, None, None, ""
    if status == TRANSFERRING:
        return Phase.ENDING, None, None, ""
    words = "suspended by its machine" if status == SUSPENDED else f"JobStatus is {status}"
    return Phase.UNKNOWN, None, None, words


def _completed(ad: Ad) -> Judgement:
    code = _exit_code(ad)
    if code == 0:
        return Phase.EXITED, Exit.DONE, 0, ""
    return Phase.EXITED, Exit.FAILED, code, code_words(code)


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
        if ad.get("LastHoldReasonCode") == SPOOLING:
            return Phase.EXITED, Exit.FAILED, None, "its files never reached the schedd"
        if "LastHoldReasonCode" in ad:
            return _held(ad, "LastHoldReason", kept=False)
        if ad.get("NumJobStarts") and _number(ad, "VacateReasonCode"):
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
    if (_number(ad, "VacateReasonCode") or 0) >= EVICTED:
        return Phase.EXITED, Exit.PREEMPTED, None, f"evicted from its machine {words}".strip()
    return Phase.EXITED, Exit.LOST, None, f"HTCondor lost its machine {words}".strip()


def code_words(code: int | None) -> str:
    """What an exit code tells people."""
    if code is None:
        return "it ended, and HTCondor does not say how"
    if code == NO_COMMAND:
        return "its Python is not there on the node (exit code 127)"
    if 128 < code < 128 + signal.NSIG and code - 128 in set(signal.Signals):
        return f"killed by {signal.Signals(code - 128).name}"
    return f"exited with code {code}"


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


def said(errors: str) -> str:
    """HTCondor's own words in one line."""
    lines = [re.sub(r"^(?:ERROR|WARNING):\s*", "", line.strip()) for line in errors.splitlines()]
    text = "; ".join(dict.fromkeys(line for line in lines if line and not line.startswith("-- ")))
    return text[:_SAID_MOST] or "it said nothing"


def submit_error(code: int | None, errors: str) -> BackendError | None:
    """What the end of a ``condor_submit`` means; None when the jobs were taken.

    ``code``: None when it had to be killed for want of time. Any failure is 1, so words decide.
    """
    if code == 0:
        return None
    words = said(errors)
    if code is None:
        return Uncertain(f"condor_submit did not end in time ({words})")
    rest = _NOT_COMMITTED.sub("", errors)
    unreachable = _UNAVAILABLE.search(rest)
    if _FULL.search(errors):
        return Full(f"HTCondor takes no more jobs now: {words}")
    if unreachable and rest == errors:
        return Unavailable(f"HTCondor cannot be reached: {words}")
    if unreachable or _UNCERTAIN.search(rest) or code < 0 or not rest.strip():
        return Uncertain(f"condor_submit ended with {code}: {words}")
    return Rejected(f"HTCondor refused the job: {said(rest)}")


def ask_error(command: str, code: int | None, errors: str) -> Unavailable | None:
    """What the end of a question means. Nothing said and nothing wrong is an answer: no jobs."""
    if code is None:
        return Unavailable(f"{command} did not end in time ({said(errors)})")
    if code or re.search(r"^ERROR|Failed to fetch", errors, re.MULTILINE | re.IGNORECASE):
        return Unavailable(f"HTCondor did not answer {command}: {said(errors)}")
    return None


def removal_error(code: int | None, errors: str) -> Unavailable | None:
    """What the end of a ``condor_rm`` means. That nothing matched is none: but see ``was_absent``."""
    if code == 0 or (code is not None and was_absent(code, errors)):
        return None
    if code is None:
        return Unavailable(f"condor_rm did not end in time ({said(errors)})")
    return Unavailable(f"HTCondor did not take the removal: {said(errors)}")


def was_absent(code: int | None, errors: str) -> bool:
    """Whether ``condor_rm`` found nothing, which it also says of jobs that it may not touch (and,
    besides the reason, when it was not let in)."""
    let_in = _UNAVAILABLE.search(errors) is None
    return code == 1 and let_in and _ABSENT.search(errors) is not None
