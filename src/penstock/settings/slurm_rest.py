"""Section about slurmrestd, and which options of ``sbatch`` it can be told. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from penstock.settings.base import AbsolutePath, Section

API = "v0.0.38"
"""The version of its interface that is spoken; Slurm 22.05 to 23.11 have it."""

TEXT: Mapping[str, str] = {
    "array": "array",
    "job-name": "name",
    "comment": "comment",
    "chdir": "current_working_directory",
    "input": "standard_input",
    "output": "standard_output",
    "gres": "gres",
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "reservation": "reservation",
    "constraint": "constraints",
    "nodelist": "nodelist",
    "exclude": "exclude_nodes",
    "licenses": "licenses",
    "dependency": "dependency",
    "wckey": "wckey",
    "hint": "cpu_binding_hint",
    "begin": "begin_time",
    "deadline": "deadline",
    "distribution": "distribution",
    "prefer": "prefer",
    "priority": "priority",
    "signal": "signal",
}
NUMBERS: Mapping[str, str] = {
    "nodes": "nodes",
    "ntasks": "tasks",
    "cpus-per-task": "cpus_per_task",
    "time": "time_limit",
    "nice": "nice",
    "ntasks-per-node": "tasks_per_node",
    "mincpus": "minimum_cpus_per_node",
    "threads-per-core": "threads_per_core",
    "core-spec": "core_specification",
    "time-min": "time_minimum",
}
MEGABYTES: Mapping[str, str] = {"mem": "memory_per_node", "mem-per-cpu": "memory_per_cpu"}
FLAGS: Mapping[str, str] = {
    "no-requeue": "no_requeue",  # "requeue": false is taken, and means nothing (Slurm 22.05)
    "oversubscribe": "oversubscribe",
    "spread-job": "spread_job",
    "kill-on-invalid-dep": "kill_on_invalid_dependency",
    "use-min-nodes": "minimum_nodes",
}
"""Options and their names in the JSON; each was tried with slurmrestd 22.05, which refuses others
(``exclusive`` and ``overcommit`` among them)."""

_SAYS_NOTHING = frozenset({"parsable"})
_OPTION = re.compile(r"--(?P<name>[a-z][a-z0-9-]*)(=(?P<value>.*))?", re.DOTALL)


def fields(words: Iterable[str]) -> dict[str, object]:
    """Options of ``sbatch`` as JSON for slurmrestd. Raises ValueError, which names what it cannot
    be told."""
    found: dict[str, object] = {}
    for word in words:
        match = _OPTION.fullmatch(word)
        if match is None:
            raise ValueError(f"{word!a} is not a long option of sbatch")
        name, value = match["name"], match["value"]
        if name in TEXT and value is not None:
            found[TEXT[name]] = value
        elif name in NUMBERS and value is not None and re.fullmatch(r"-?[0-9]{1,15}", value):
            found[NUMBERS[name]] = int(value)
        elif name in MEGABYTES and value is not None and re.fullmatch(r"[0-9]{1,15}M?", value):
            found[MEGABYTES[name]] = int(value.removesuffix("M"))
        elif name in FLAGS and value is None:
            found[FLAGS[name]] = True
        elif name not in _SAYS_NOTHING:
            raise ValueError(f"{word!a} cannot be said to slurmrestd")
    return found


class SlurmRestSettings(Section):
    """slurmrestd, with `act_by = "slurmrestd"`: where it is, and tokens to act for users with."""

    url: str = Field(
        description='Where it listens: `"unix:/run/slurmrestd.sock"`, `"https://…"`, or '
        '`"http://127.0.0.1:6820"`; tokens go over no network in the clear.',
    )
    token_file: AbsolutePath | None = Field(
        default=None,
        description="A file (0600) with a token of SlurmUser, which may act for everybody. It is "
        "read anew when it changes.",
    )
    token_command: tuple[str, ...] = Field(
        default=(),
        description="A command that prints a token of one user, `{user}` in its arguments, as "
        "`scontrol token` does.",
    )

    @field_validator("url")
    @classmethod
    def _safe(cls, value: str) -> str:
        if re.fullmatch(r"unix:/[^\x00-\x20]+", value):
            return value
        try:
            parts = urlsplit(value)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in ("http", "https") or parts.path not in ("", "/"):
            raise ValueError('must be "unix:/path", "https://host:port" or "http://127.0.0.1:port"')
        if parts.scheme == "http" and not _loopback(host):
            raise ValueError("tokens must not cross a network in the clear: use https or unix:")
        return value.rstrip("/")

    @field_validator("token_command")
    @classmethod
    def _of_a_user(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and (not value[0].startswith("/") or "{user}" not in " ".join(value[1:])):
            raise ValueError("must begin with an absolute path, and name {user} in an argument")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> SlurmRestSettings:
        if (self.token_file is None) == (not self.token_command):
            raise ValueError("needs either token_file or token_command")
        return self


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
