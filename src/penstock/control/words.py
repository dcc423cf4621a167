"""What happened to jobs, in people's words, many equal things as one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from penstock.control.channel import ExitReport, printable
from penstock.model.cluster import Cluster
from penstock.model.job import Exit, Job, Phase

_NO_PYTHON = "its Python is not there"
"""Backends' words, which do not know the path."""

LAST_LINES = 20
LAST_CHARACTERS = 2000

_UNREADABLE = re.compile(r'^ *File "(?:.*/)?penstock_agent\.py", line \d+$', re.MULTILINE)
"""How a Python begins that cannot parse the agent; in a traceback more follows on the line."""

_EXITS = {
    Exit.CANCELLED: "was cancelled from outside",
    Exit.TIME_LIMIT: "reached its time limit",
    Exit.PREEMPTED: "was preempted",
    Exit.LOST: "was lost with its node",
}

_PLURAL = {
    "was lost with its node": "were lost with their nodes",
    "was ": "were ",
    "is ": "are ",
    "reached its ": "reached their ",
    "left before its ": "left before their ",
}


def how(job: Job | None, report: ExitReport | None, backend: str, python: str = "") -> str:
    """How a job ended: ``exited 137: out of memory``, ``was preempted``, …

    ``python`` is what it ran, to be named where only that it was not there is known.
    """
    code = report.code if report and report.code is not None else job.exit_code if job else None
    exit = job.exit if job else None
    reason = (report.reason if report else "") or (job.reason if job else "")
    reason = printable(reason).strip().rstrip(".")
    if python:
        reason = reason.replace(_NO_PYTHON, f"its Python {printable(python)} is not there")
    if exit in _EXITS:
        phrase = _EXITS[exit]
    elif code is not None:
        phrase = f"exited {code}"
    elif report is not None or exit is not None:
        phrase = "exited"
    elif job is not None and job.phase is Phase.ENDING:
        phrase = f"is ending in {backend} without coming to an end"
    else:
        phrase = f"is not in {backend} any more"
    if reason in ("", f"exited with code {code}"):  # which says nothing new
        return phrase
    return reason if report and report.code is None and not exit else f"{phrase}: {reason}"


def merge(named: Iterable[tuple[str, str]], *, noun: str = "worker") -> list[str]:
    """(name, how) pairs as sentences, equal ones as one: ``12 workers exited 1 (w3-0, …)``."""
    groups: dict[str, list[str]] = {}
    for name, phrase in named:
        groups.setdefault(phrase, []).append(name)
    lines = []
    for phrase, names in groups.items():
        if len(names) == 1:
            lines.append(f"{noun} {names[0]} {phrase}")
        else:
            some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            lines.append(f"{len(names)} {noun}s {_of_several(phrase)} ({some})")
    return lines


def _of_several(phrase: str) -> str:
    for singular, plural in _PLURAL.items():
        if phrase.startswith(singular):
            return plural + phrase[len(singular) :]
    return phrase


def last_lines(output: str) -> str:
    """The end of a job's output, as much as an error can carry."""
    lines = printable(output, newlines=True).strip().splitlines()[-LAST_LINES:]
    return "\n".join(lines)[-LAST_CHARACTERS:]


def output(said: str) -> str:
    """What follows a reason: the job's last words, or that there were none."""
    tail = last_lines(said)
    return f" Its last output:\n{tail}" if tail else " It left no output."


def scheduler_ended(phrase: str, said: str) -> str:
    """Why a cluster failed whose scheduler's job is over."""
    if phrase.startswith(_EXITS[Exit.TIME_LIMIT]):
        return f"The scheduler's job {phrase}, and the cluster ended with it."
    if _UNREADABLE.search(said):
        phrase += ": its Python is too old, Dask clusters need Python 3.8 or newer"
    return f"The scheduler {phrase}.{output(said)}"


def created(cluster: Cluster) -> str:
    """What a new cluster is, and which of the user's variables its jobs do not get."""
    text = f"Created with profile {cluster.spec.profile}."
    dropped = cluster.options.get("env_dropped")
    if isinstance(dropped, Sequence) and dropped:
        text += f" Not passed on, as the profile says: {', '.join(map(str, dropped))}."
    return text[:LAST_CHARACTERS]
