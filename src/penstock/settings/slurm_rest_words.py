"""Which options of ``sbatch`` slurmrestd can be told, and how. Pure.

Its interface has versions, of which a Slurm speaks the last three or so. Two dialects cover them:
v0.0.38 (Slurm 22.05 to 23.11), and v0.0.40 to v0.0.45 (from 23.11 on), where numbers that may be
unset are tables and nodes are lists. All fields here were tried with Slurm 22.05, 24.11 and 26.05: the old
dialect refuses fields that it does not know, the new one ignores them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

OLD = "v0.0.38"
VERSIONS = (*(f"v0.0.{number}" for number in range(45, 39, -1)), OLD)
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
_MINUTES: Mapping[str, str] = {"time": "time_limit", "time-min": "time_minimum"}
_MEGABYTES: Mapping[str, str] = {"mem": "memory_per_node", "mem-per-cpu": "memory_per_cpu"}

_SAYS_NOTHING = frozenset({"parsable"})
_OPTION = re.compile(r"--(?P<name>[a-z][a-z0-9-]*)(=(?P<value>.*))?", re.DOTALL)

_Write = Callable[[str], object]
"""What a value is in the JSON; None when it cannot be said."""


def _integer(value: str) -> int | None:
    return int(value) if re.fullmatch(r"-?[0-9]{1,15}", value) else None


def _count(value: str) -> int | None:
    return int(value) if re.fullmatch(r"[0-9]{1,15}", value) else None


def _megabytes(value: str) -> int | None:
    return _count(value.removesuffix("M"))


def _settable(number: Callable[[str], int | None]) -> _Write:
    def write(value: str) -> object:
        found = number(value)
        return None if found is None else {"set": True, "number": found}

    return write


def _digits(value: str) -> str | None:
    return value if value.isdecimal() else None


def _gres(value: str) -> str:
    return ",".join(f"gres/{part}" for part in value.split(","))


def _list(value: str) -> list[str]:
    return [value]


def _all(names: Mapping[str, str], write: _Write) -> dict[str, tuple[str, _Write]]:
    return {option: (name, write) for option, name in names.items()}


@dataclass(frozen=True, slots=True)
class _Dialect:
    """Options with a value, each with its name in the JSON and how to write it; and those without,
    each with name and value."""

    values: Mapping[str, tuple[str, _Write]]
    flags: Mapping[str, tuple[str, object]]


_OLD = _Dialect(
    values={
        **_all(_TEXT, str),
        "gres": ("gres", str),
        "nodelist": ("nodelist", str),
        "exclude": ("exclude_nodes", str),
        "hint": ("cpu_binding_hint", str),
        "begin": ("begin_time", str),
        "deadline": ("deadline", str),
        "priority": ("priority", str),
        "signal": ("signal", str),
        **_all(_NUMBERS, _integer),
        "nodes": ("nodes", _integer),
        **_all(_MINUTES, _count),
        **_all(_MEGABYTES, _megabytes),
    },
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
    values={
        **_all(_TEXT, str),
        "gres": ("tres_per_node", _gres),
        "nodelist": ("required_nodes", _list),
        "exclude": ("excluded_nodes", _list),
        "priority": ("priority", _settable(_count)),
        **_all(_NUMBERS, _integer),
        "nodes": ("nodes", _digits),
        **_all(_MINUTES, _settable(_count)),
        **_all(_MEGABYTES, _settable(_megabytes)),
    },
    flags={
        "no-requeue": ("requeue", False),
        "spread-job": ("flags", "SPREAD_JOB"),
        "kill-on-invalid-dep": ("flags", "KILL_INVALID_DEPENDENCY"),
    },
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
    if name not in dialect.values:
        return None
    said, write = dialect.values[name]
    written = write(value)
    return None if written is None else (said, written)


def check_words(words: Iterable[str]) -> None:
    """Raises ValueError for options that no version can be told; which one it is, is not known yet."""
    for word in words:
        try:
            fields([word], VERSIONS[0])
        except ValueError:
            fields([word], OLD)
