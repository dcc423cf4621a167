"""What Slurm's commands say, and what it means. Pure.

Formats and words were observed with Slurm 22.05. Other users' jobs are in every answer, and their
comments and names are theirs to choose, line breaks included. So fields end with a separator that
nobody can guess, new for each question: nobody can forge a line of ours.
"""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from penstock.backends.slurm.script import NO_COMMAND, NO_DIRECTORY, NO_PROLOG
from penstock.backends.slurm.sharing import ALONE, Sharing, parse_comment
from penstock.model.errors import BackendError, Full, Rejected, Unavailable, Uncertain
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

_UNCERTAIN = re.compile(
    r"Socket timed out|Zero Bytes|Transport endpoint|Connection reset|Broken pipe|"
    r"Insane message length|Message receive failure|Header lengths are longer",
    re.IGNORECASE,
)
_UNAVAILABLE = re.compile(
    r"Unable to contact slurm controller|Protocol authentication error|Munge|auth_g_create|"
    r"Connection refused|Unable to establish|in standby mode|"
    r"Could not establish a configuration source|Unable to open .*slurm\.conf|"
    r"Resource temporarily unavailable|Cannot allocate memory",
    re.IGNORECASE,
)
_FULL = re.compile(
    # The association's or QOS's limit of submitted jobs; the words stand before the general ones of
    # ESLURM_ACCOUNTING_POLICY, which also mean limits that no waiting helps (job_reason_str.c).
    r"(?:Assoc|QOS)\w*SubmitJob|"
    # MaxJobCount: sbatch tries again for two minutes before it says the last of these (sbatch.c).
    r"sleeping and retrying|job submission failed: Resource temporarily unavailable",
    re.IGNORECASE,
)
WAITS = "sleeping and retrying"
"""What sbatch says before it waits by itself, having got nothing."""

_ALREADY_OVER = re.compile(r"Invalid job id specified|already completing or completed")
_PREFIX = re.compile(
    r"^(?:sbatch|scancel|squeue|scontrol|slurm_\w+)?:?\s*(?:error|fatal):\s*", re.M
)
_SAID_MOST = 500


def look_arguments(separator: str) -> list[str]:
    """The arguments of ``squeue`` for ``parse_look`` with the same separator."""
    return ["-h", "-r", "-t", "all", "-O", ",".join(f"{name}:{separator}" for name in _FIELDS)]


def parse_look(text: str, separator: str, gateway: str) -> list[Job]:
    """The jobs of a gateway in an answer of ``squeue``. Raises Unavailable for a garbled answer.

    A task whose number is not shown (a queued array that was cancelled as a whole) is left out: it
    is as good as absent. A job of the same batch and index that lives wins over one that is over.
    """
    *fields, rest = text.split(separator)
    width = len(_FIELDS)
    if len(fields) % width or rest.strip():
        raise Unavailable("squeue's answer is not complete")
    found: dict[tuple[BatchId, int, str], Job] = {}
    for at in range(0, len(fields), width):
        said = parse_comment(fields[at + _COMMENT])
        if said is None or said[0].gateway != gateway:
            continue
        for job in _jobs(*said, fields[at : at + width]):
            key = (job.batch, job.index, job.owner)
            if key not in found or not found[key].alive:
                found[key] = job
    return list(found.values())


def _jobs(batch: BatchId, sharing: Sharing, fields: list[str]) -> Iterator[Job]:
    """The jobs that a task is: several where workers share one."""
    job = _job(batch, fields)
    if job is None or sharing is ALONE:
        return iter(() if job is None else (job,))
    return (replace(job, index=index) for index in sharing.indices(job.index))


def _job(batch: BatchId, fields: list[str]) -> Job | None:
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
    code = exit_code(status) if exit is not None else None
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


def exit_code(status: str) -> int | None:
    """The code of a raw wait status; 128 + n for signal n. None when it is no number."""
    if not status.isdecimal():
        return None
    number = int(status)
    return 128 + (number & 0x7F) if number & 0x7F else number >> 8 & 0xFF


def _reason(state: str, reason: str, exit: Exit | None, code: int | None) -> str:
    """Slurm's own words, and what an exit code of our script means."""
    said = "" if reason in _SAYS_NOTHING else reason
    if exit is None:
        if state in ("PENDING", "RUNNING", "COMPLETING"):
            return said
        state = _MEANS.get(state, state)
        return f"{state} ({said})" if said else state
    if exit is Exit.DONE:
        return ""
    if state == "FAILED":
        return "; ".join(filter(None, [code_words(code), said]))
    return f"Slurm says {state}" + (f" ({said})" if said and said != state else "")


def code_words(code: int | None) -> str:
    """What an exit code tells people."""
    if code is None:
        return ""
    if code == NO_COMMAND:
        return "its Python is not there on the node (exit code 127)"
    if code == NO_DIRECTORY:
        return "the node has no room for its private directory (exit code 125)"
    if code == NO_PROLOG:
        return "the prolog of its profile failed (exit code 124)"
    if 128 < code < 128 + signal.NSIG and code - 128 in set(signal.Signals):
        name = signal.Signals(code - 128).name
        return f"killed by {name}" + (", maybe for its memory" if name == "SIGKILL" else "")
    return f"exited with code {code}"


def ranges(indices: Collection[int]) -> str:
    """Task numbers as Slurm writes them in brackets: ``0-3,7``."""
    parts: list[list[int]] = []
    for index in sorted(set(indices)):
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def max_array_size(config: str) -> int | None:
    """How many tasks an array may have, from ``scontrol show config``; None when it is not there.

    Task numbers go up to one less than MaxArraySize (slurm.conf(5)); 0 means no arrays at all.
    """
    match = re.search(r"^MaxArraySize\s*=\s*([0-9]+)\s*$", config, re.MULTILINE)
    return int(match[1]) if match else None


def said(errors: str) -> str:
    """Slurm's own words in one line."""
    lines = [_PREFIX.sub("", line).strip() for line in errors.splitlines()]
    text = "; ".join(dict.fromkeys(filter(None, lines)))
    return text[:_SAID_MOST] or "it said nothing"


def submit_error(code: int | None, errors: str) -> BackendError | None:
    """What the end of an ``sbatch`` means; None when the jobs were taken.

    ``code``: None when it had to be killed for want of time. Words decide, not codes: any failure
    is 1, and a time-out may well have been a success.
    """
    if code == 0:
        return None
    words = said(errors)
    if code is not None and _FULL.search(errors):
        return Full(f"Slurm takes no more jobs now: {words}")
    if code is None:
        return Uncertain(f"sbatch did not end in time ({words})")
    if _UNCERTAIN.search(errors):
        return Uncertain(f"Slurm did not answer: {words}")
    if _UNAVAILABLE.search(errors):
        return Unavailable(f"Slurm cannot be reached: {words}")
    if code > 0 and errors.strip():
        return Rejected(f"Slurm refused the job: {words}")
    return Uncertain(f"sbatch ended with {code} ({words})")


def ask_error(command: str, code: int | None, errors: str) -> Unavailable | None:
    """What the end of a question means: its exit code is not to be trusted, so words count too."""
    if code is None:
        return Unavailable(f"{command} did not end in time ({said(errors)})")
    if code or re.search(r"\berror:", errors):
        return Unavailable(f"Slurm did not answer {command}: {said(errors)}")
    return None


def cancel_error(code: int | None, errors: str) -> Unavailable | None:
    """What the end of a ``scancel`` means; jobs that are over already are no failure."""
    if code is None:
        return Unavailable(f"scancel did not end in time ({said(errors)})")
    lines = _without_over(errors.splitlines())
    if lines or (code and not errors.strip()):
        return Unavailable(f"Slurm did not take the cancellation: {said(chr(10).join(lines))}")
    return None


def _without_over(lines: Iterable[str]) -> list[str]:
    return [line for line in lines if line.strip() and not _ALREADY_OVER.search(line)]
