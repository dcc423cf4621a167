"""What ``squeue`` says of all jobs, and what it means. Pure but for what a reader remembers.

Formats and words were observed with Slurm 22.05 and 24.11. Other users' jobs are in every answer, and
their comments and names are theirs to choose, line breaks included. So fields end with a separator
that nobody can guess, new for each question: nobody can forge a line of ours.
"""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from penstock.backends.codes import code_words
from penstock.backends.slurm.reasons import explained
from penstock.backends.slurm.script import NO_DIRECTORY, NO_PROLOG
from penstock.backends.slurm.sharing import ALONE, Sharing, parse_comment
from penstock.model.errors import Unavailable
from penstock.model.ids import BatchId
from penstock.model.job import Exit, Job, Phase

_FIELDS = (
    *("ArrayJobID", "ArrayTaskID", "State", "SubmitTime", "StartTime", "EndTime"),
    *("exit_code", "UserName", "NodeList", "Comment", "Reason"),
)
_COMMENT = _FIELDS.index("Comment")

_EXPECTED_STEP = 60.0
"""Seconds to which expected starts are rounded up: backfill thinks anew all the time, and nobody
should be woken by it."""

_PHASES: Mapping[str, Phase] = {
    "PENDING": Phase.QUEUED,
    "CONFIGURING": Phase.QUEUED,  # nodes boot for it
    "REQUEUED": Phase.QUEUED,
    "REQUEUE_FED": Phase.QUEUED,
    "REQUEUE_HOLD": Phase.HELD,
    "RESV_DEL_HOLD": Phase.HELD,
    "SPECIAL_EXIT": Phase.HELD,
    "RUNNING": Phase.RUNNING,
    "RESIZING": Phase.RUNNING,
    "SIGNALING": Phase.RUNNING,
    "SUSPENDED": Phase.UNKNOWN,  # has its place, and gets no time
    "STOPPED": Phase.UNKNOWN,
    "COMPLETING": Phase.ENDING,
    "STAGE_OUT": Phase.ENDING,
}

_EXITS: Mapping[str, Exit] = {
    "COMPLETED": Exit.DONE,
    "FAILED": Exit.FAILED,
    "OUT_OF_MEMORY": Exit.FAILED,
    "CANCELLED": Exit.CANCELLED,
    "REVOKED": Exit.CANCELLED,
    "TIMEOUT": Exit.TIME_LIMIT,
    "DEADLINE": Exit.TIME_LIMIT,
    "PREEMPTED": Exit.PREEMPTED,
    "NODE_FAIL": Exit.LOST,
    "BOOT_FAIL": Exit.LOST,
}

_HELD = re.compile(r"JobHeld|DependencyNeverSatisfied|held|AdminStop|BadConstraints")
_MEANS = {"SUSPENDED": "SUSPENDED, goes on once it is resumed"}
"""Slurm's words for states of living jobs, with what they mean."""

_SAYS_NOTHING = ("", "None", "NonZeroExitCode")


def arguments(separator: str) -> list[str]:
    """The arguments of ``squeue`` for ``Reader.read`` with the same separator."""
    return ["-h", "-r", "-t", "all", "-O", ",".join(f"{name}:{separator}" for name in _FIELDS)]


class Reader:
    """Reads the answers that a gateway gets.

    Most tasks look as they did at the last look, and Slurm shows those that are over for five
    minutes (MinJobAge). So what a row means is remembered until the next answer: the jobs are then
    the very same objects, which the core compares at no cost. Threads may read at once.
    """

    def __init__(self, gateway: str) -> None:
        self._gateway = gateway
        self._known = _Known()

    def read(self, text: str, separator: str) -> list[Job]:
        """The gateway's jobs in an answer of ``squeue``. Raises Unavailable for a garbled one.

        A task whose number is not shown (a queued array that was cancelled as a whole) is left out:
        it is as good as absent. A job of the same batch and index that lives wins over one that is
        over.
        """
        *fields, rest = text.split(separator)
        width = len(_FIELDS)
        if len(fields) % width or rest.strip():
            raise Unavailable("squeue's answer is not complete")
        known, seen = self._known, _Known()
        found: dict[BatchId, dict[tuple[int, str], Job]] = {}
        for at in range(0, len(fields), width):
            comment = fields[at + _COMMENT]
            if comment not in seen.comments:
                seen.comments[comment] = self._mine(comment, known)
            said = seen.comments[comment]
            if said is None:
                continue
            row = tuple(fields[at : at + width])
            jobs = seen.rows[row] = known.rows.get(row) or tuple(_jobs(*said, row))
            into = found.setdefault(said[0], {})
            for job in jobs:
                key = (job.index, job.owner)
                if key not in into or not into[key].alive:
                    into[key] = job
        self._known = seen
        return [job for jobs in found.values() for job in jobs.values()]

    def _mine(self, comment: str, known: _Known) -> tuple[BatchId, Sharing] | None:
        """What a comment says, None if it is not of this gateway."""
        if comment in known.comments:
            return known.comments[comment]
        said = parse_comment(comment)
        return said if said and said[0].gateway == self._gateway else None


@dataclass(slots=True)
class _Known:
    """What the comments and the rows of an answer mean."""

    comments: dict[str, tuple[BatchId, Sharing] | None] = field(default_factory=dict)
    rows: dict[tuple[str, ...], tuple[Job, ...]] = field(default_factory=dict)


def _jobs(batch: BatchId, sharing: Sharing, fields: tuple[str, ...]) -> Iterator[Job]:
    """The jobs that a task is: several where workers share one."""
    job = _job(batch, fields)
    if job is None or sharing is ALONE:
        return iter(() if job is None else (job,))
    return (replace(job, index=index) for index in sharing.indices(job.index))


def _job(batch: BatchId, fields: tuple[str, ...]) -> Job | None:
    base, task, state, submitted, started, ends, status, owner, node, _, reason = fields
    base = base.strip()  # the line break before it
    if not (base.isdecimal() and task.isdecimal()):
        return None
    exit = _EXITS.get(state)
    if exit is not None:
        phase = Phase.EXITED
    elif state == "PENDING" and _HELD.search(reason):
        phase = Phase.HELD
    else:
        phase = _PHASES.get(state, Phase.UNKNOWN)
    waits = phase in (Phase.QUEUED, Phase.HELD)
    start = _time(started)
    code = _exit_code(status) if exit is not None else None
    return Job(
        batch=batch,
        index=int(task),
        native=f"{base}_{task}",
        owner=owner,
        phase=phase,
        exit=exit,
        exit_code=code,
        reason=_reason(state, reason, exit, code),
        node=node,
        since=None if waits else start,
        submitted=_time(submitted),
        expected=_step(start) if phase is Phase.QUEUED and start is not None else None,
        ends=None if waits or exit is not None else _time(ends),
    )


def _time(text: str) -> float | None:
    """Seconds since the epoch; None for what Slurm writes where it does not know ("N/A")."""
    return float(text) if text.isdecimal() else None


def _step(moment: float) -> float:
    return math.ceil(moment / _EXPECTED_STEP) * _EXPECTED_STEP


def _exit_code(status: str) -> int | None:
    """The code that ``squeue`` shows, 128 + n for signal n; None for what is neither.

    Slurm 22.05 shows a raw wait status, 24.11 ``code:signal``, where 125 is none that Linux has: it
    stands for a lack of memory.
    """
    code, colon, number = status.partition(":")
    if not code.isdecimal() or (colon and not number.isdecimal()):
        return None
    signalled = int(number) if colon else int(code) & 0x7F
    if signalled >= signal.NSIG:
        return None
    if signalled:
        return 128 + signalled
    return int(code) if colon else int(code) >> 8 & 0xFF


def _reason(state: str, reason: str, exit: Exit | None, code: int | None) -> str:
    """Slurm's own words, and what an exit code of our script means."""
    said = "" if reason in _SAYS_NOTHING else reason
    if exit is None:
        if state == "PENDING":
            return explained(said)
        if state in ("RUNNING", "COMPLETING"):
            return said
        state = _MEANS.get(state, state)
        return f"{state} ({said})" if said else state
    if exit is Exit.DONE:
        return ""
    if state == "FAILED":
        return "; ".join(filter(None, [_code_words(code), said]))
    return f"Slurm says {state}" + (f" ({said})" if said and said != state else "")


def _code_words(code: int | None) -> str:
    """What an exit code tells people."""
    if code is None:
        return ""
    if code == NO_DIRECTORY:
        return "the node has no room for its private directory (exit code 125)"
    if code == NO_PROLOG:
        return "the prolog of its profile failed (exit code 124)"
    return code_words(code) + (", maybe for its memory" if code == 128 + signal.SIGKILL else "")
