"""Which options of ``sbatch`` slurmrestd can be told, and how. Pure.

Its interface has versions, of which a Slurm speaks the last three or so. Two dialects cover them:
v0.0.38 (Slurm 22.05 to 23.11), and v0.0.40 to v0.0.42 (from 23.11 on), where numbers that may be
unset are tables and nodes are lists. All fields here were tried with Slurm 22.05 and 24.11: the old
dialect refuses fields that it does not know, the new one ignores them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

OLD = "v0.0.38"
VERSIONS = ("v0.0.42", "v0.0.41", "v0.0.40", OLD)
"""What is spoken, the best first."""

_TEXT: Mapping[str, str] = {
    "array": "array",
    "job-name": "name",
    "comment": "comment",
    "chdir": "current_working_directory",
    "input": "standard_input",
    "output": "standard_output",
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "reservation": "reservation",
    "constraint": "constraints",
    "licenses": "licenses",
    "dependency": "dependency",
    "wckey": "wckey",
    "distribution": "distribution",
    "prefer": "prefer",
}
_NUMBERS: Mapping[str, str] = {
    "ntasks": "tasks",
    "cpus-per-task": "cpus_per_task",
    "nice": "nice",
    "ntasks-per-node": "tasks_per_node",
    "mincpus": "minimum_cpus_per_node",
    "threads-per-core": "threads_per_core",
    "core-spec": "core_specification",
}
_SETTABLE: Mapping[str, str] = {"time": "time_limit", "time-min": "time_minimum"}
_MEGABYTES: Mapping[str, str] = {"mem": "memory_per_node", "mem-per-cpu": "memory_per_cpu"}

_SAYS_NOTHING = frozenset({"parsable"})
_OPTION = re.compile(r"--(?P<name>[a-z][a-z0-9-]*)(=(?P<value>.*))?", re.DOTALL)


def _settable(number: int) -> object:
    return {"set": True, "number": number}


def _gres(value: str) -> str:
    return ",".join(f"gres/{part}" for part in value.split(","))


@dataclass(frozen=True, slots=True)
class _Dialect:
    """Options by what they take, each with its name in the JSON; ``as_…``: how that is written."""

    text: Mapping[str, str]
    numbers: Mapping[str, str]
    flags: Mapping[str, tuple[str, object]]
    settable: Mapping[str, str] = field(default_factory=lambda: _SETTABLE)
    lists: Mapping[str, str] = field(default_factory=dict)
    as_settable: Callable[[int], object] = int
    as_text: Mapping[str, Callable[[str], str]] = field(default_factory=dict)


_OLD = _Dialect(
    text={
        **_TEXT,
        "gres": "gres",
        "nodelist": "nodelist",
        "exclude": "exclude_nodes",
        "hint": "cpu_binding_hint",
        "begin": "begin_time",
        "deadline": "deadline",
        "priority": "priority",
        "signal": "signal",
    },
    numbers={**_NUMBERS, "nodes": "nodes"},
    flags={
        # "requeue": false is taken, and means nothing (Slurm 22.05)
        "no-requeue": ("no_requeue", True),
        "oversubscribe": ("oversubscribe", True),
        "spread-job": ("spread_job", True),
        "kill-on-invalid-dep": ("kill_on_invalid_dependency", True),
        "use-min-nodes": ("minimum_nodes", True),
    },
)
"""It refuses ``exclusive`` and ``overcommit``, among others."""

_NEW = _Dialect(
    text={**_TEXT, "gres": "tres_per_node", "nodes": "nodes"},
    numbers=_NUMBERS,
    settable={**_SETTABLE, "priority": "priority"},
    lists={"nodelist": "required_nodes", "exclude": "excluded_nodes"},
    flags={
        "no-requeue": ("requeue", False),
        "spread-job": ("flags", "SPREAD_JOB"),
        "kill-on-invalid-dep": ("flags", "KILL_INVALID_DEPENDENCY"),
    },
    as_settable=_settable,
    as_text={"gres": _gres},
)


def fields(words: Iterable[str], version: str) -> dict[str, object]:
    """Options of ``sbatch`` as JSON for slurmrestd. Raises ValueError, which names what it cannot
    be told."""
    dialect = _OLD if version == OLD else _NEW
    found: dict[str, object] = {}
    flags: dict[object, None] = {}
    for word in words:
        match = _OPTION.fullmatch(word)
        if match is None:
            raise ValueError(f"{word!a} is not a long option of sbatch")
        if match["name"] in _SAYS_NOTHING:
            continue
        said = _field(dialect, match["name"], match["value"])
        if said is None:
            raise ValueError(f"{word!a} cannot be said to slurmrestd")
        name, value = said
        if name == "flags":
            flags[value] = None
        else:
            found[name] = value
    if flags:
        found["flags"] = list(flags)
    return found


def _field(dialect: _Dialect, name: str, value: str | None) -> tuple[str, object] | None:
    """Name and value in the JSON of an option; None for what cannot be said."""
    if value is None:
        return dialect.flags.get(name)
    if name in dialect.text and (name != "nodes" or value.isdecimal()):
        return dialect.text[name], dialect.as_text.get(name, str)(value)
    if name in dialect.lists:
        return dialect.lists[name], [value]
    if name in dialect.numbers and re.fullmatch(r"-?[0-9]{1,15}", value):
        return dialect.numbers[name], int(value)
    if name in dialect.settable and re.fullmatch(r"[0-9]{1,15}", value):
        return dialect.settable[name], dialect.as_settable(int(value))
    if name in _MEGABYTES and re.fullmatch(r"[0-9]{1,15}M?", value):
        return _MEGABYTES[name], dialect.as_settable(int(value.removesuffix("M")))
    return None


def check_sayable(words: Iterable[str]) -> None:
    """Raises ValueError for options that no version can be told; which one it is, is not known yet."""
    for word in words:
        try:
            fields([word], VERSIONS[0])
        except ValueError:
            fields([word], OLD)
