"""Slurm's own numbers: the jobs, cores and memory of everybody, and how long a new job would wait.

One ``squeue`` a measurement, without ``-r``: an array of a hundred thousand waiting tasks is one
line of it, and its tasks are counted from ``0-99999%5``. Formats observed with Slurm 22.05 and 24.11.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from penstock.backends.insight import Figure
from penstock.backends.sums import Sum
from penstock.model.errors import Unavailable

FULL_LISTS = {"SLURM_BITSTR_LEN": "0"}
"""Variables for ``squeue``: task lists are cut off after 64 characters without it (squeue(1))."""

SEVERAL = "(several)"
"""The label of a waiting job that may start in any of several partitions: users choose the lists."""

_FIELDS = ("UserName", "Partition", "State", "ArrayTaskID", "tres-alloc", "Reason")
_LIVING = "PENDING,CONFIGURING,RUNNING,SUSPENDED,COMPLETING"
_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9}))?)?")
_UNITS = {"": 20, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50}

_NAMES = {
    "penstock_slurm_jobs": "Jobs in Slurm, array tasks counted.",
    "penstock_slurm_cores": "Cores that these jobs have, or wait for.",
    "penstock_slurm_memory_bytes": "Memory that these jobs have, or wait for.",
}


Key = tuple[str, ...]
"""(user, partition, state)"""


def count_arguments(separator: str) -> list[str]:
    """The arguments of ``squeue`` for ``count`` with the same separator."""
    form = ",".join(f"{name}:{separator}" for name in _FIELDS)
    return ["--noheader", f"--states={_LIVING}", f"--Format={form}"]


def count(text: str, separator: str) -> dict[Key, Sum]:
    """Jobs by user, partition and state. Raises Unavailable for a garbled answer."""
    *fields, rest = text.split(separator)
    width = len(_FIELDS)
    if len(fields) % width or rest.strip():
        raise Unavailable("squeue's answer is not complete")
    found: dict[Key, Sum] = defaultdict(Sum)
    for at in range(0, len(fields), width):
        user, partition, state, tasks, tres, reason = fields[at : at + width]
        key = (user.strip(), SEVERAL if "," in partition else partition, _state(state, reason))
        found[key].add(_resources(tres), number_of_tasks(tasks))
    return dict(found)


def _state(state: str, reason: str) -> str:
    if state != "PENDING":
        return "running"  # or has its place at least
    return "held" if reason.startswith("JobHeld") else "pending"


def number_of_tasks(text: str) -> int:
    """How many jobs a line stands for: ``N/A`` and ``7`` one, ``1,5-9:2%3`` four."""
    total = 0
    for part in text.partition("%")[0].split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is not None:
            first = int(match[1])
            last, step = int(match[2] or first), int(match[3] or 1)
            total += max(0, last - first) // max(1, step) + 1
    return max(1, total)


def _resources(tres: str) -> Sum:
    """One job with ``cpu=2,mem=4G,node=1,billing=2``; a number without unit is in MiB."""
    given = dict(part.partition("=")[::2] for part in tres.split(","))
    return Sum(1, _number(given.get("cpu", "")), _bytes(given.get("mem", "")))


def _number(text: str) -> float:
    return float(text) if re.fullmatch(r"\d{1,12}(\.\d{1,6})?", text) else 0.0


def _bytes(text: str) -> float:
    digits, unit = (text[:-1], text[-1]) if text[-1:].isalpha() else (text, "")
    return _number(digits) * 2.0 ** _UNITS.get(unit, 0)


def as_figures(table: Mapping[Key, Sum]) -> Iterator[Figure]:
    """The counted jobs as samples."""
    for (user, partition, state), total in sorted(table.items()):
        labels = {"user": user, "partition": partition, "state": state}
        values: Sequence[float] = (total.jobs, total.cores, total.memory)
        for (name, text), value in zip(_NAMES.items(), values, strict=True):
            yield Figure(name, text, value, labels)
