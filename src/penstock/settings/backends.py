"""Sections about batch systems: one table each, told apart by ``type``.

A new kind of backend adds its class here and joins the union ``BackendSettings``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from penstock.settings.base import AbsolutePath, Section
from penstock.settings.figures import SlurmFigureSettings
from penstock.settings.htcondor import HTCondorBackendSettings
from penstock.settings.notebook import NotebookBackendSettings
from penstock.settings.slurm_rest import SlurmRestSettings
from penstock.settings.slurm_rest_words import check_words
from penstock.settings.units import Duration


class LocalBackendSettings(Section):
    """Processes on the gateway's own machine."""

    type: Literal["local"] = Field(description="`local`: processes on this machine.")
    period: Duration = Field(
        default=2.0,
        description="How often the machine's processes are looked at when all is quiet.",
    )
    directory: AbsolutePath | None = Field(
        default=None,
        description="Where jobs get their private directories. Not set: below the state directory, "
        "or /var/lib/penstock-jobs when the jobs run as many users.",
    )


_OURS = (
    *("array", "batch", "chdir", "clusters", "comment", "cpus-per-task", "error", "export"),
    *("export-file", "get-user-env", "gid", "help", "hold", "input", "job-name", "mem", "nodes"),
    *("no-requeue", "ntasks", "output", "parsable", "quiet", "requeue", "test-only", "uid"),
    *("usage", "verbose", "version", "wait", "wrap"),
)
"""Options of ``sbatch`` that the backend sets itself, or that would change what it answers."""

MOST_WORKERS_PER_JOB = 30
"""As many as there are real-time signals, each of which ends one of them."""

_ARGUMENT = re.compile(r"--(?P<name>[a-z][a-z0-9-]*)(=[^\x00-\x1f\x7f]*)?")


def _word(value: str) -> str:
    if not value or len(value) > 1024 or re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError("must be text in one line, up to 1024 characters")
    return value


def _argument(value: str) -> str:
    match = _ARGUMENT.fullmatch(value)
    if match is None:
        raise ValueError('must be one long option of sbatch, like "--nice=100" or "--exclusive"')
    for name in _OURS:
        if name.startswith(match["name"]):  # sbatch takes abbreviations too
            raise ValueError(f"--{name} is set by the gateway")
    return value


def _line(value: str) -> str:
    if not value.strip() or len(value) > 4096 or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
        raise ValueError("must be one line of shell, up to 4096 characters")
    return value


Word = Annotated[str, AfterValidator(_word)]
Line = Annotated[str, AfterValidator(_line)]
Argument = Annotated[str, AfterValidator(_argument)]


class SlurmJobSettings(Section):
    """What `sbatch` is told about jobs. A profile's `extras` take the same keys and win over it."""

    partition: Word | None = Field(default=None, description="The partition (`--partition`).")
    account: Word | None = Field(default=None, description="Who pays (`--account`).")
    qos: Word | None = Field(default=None, description="The quality of service (`--qos`).")
    reservation: Word | None = Field(default=None, description="A reservation (`--reservation`).")
    constraint: Word | None = Field(
        default=None, description="Features that nodes must have (`--constraint`)."
    )
    gres: Word | None = Field(
        default=None,
        description="Generic resources besides the GPUs that `gpus` asks for (`--gres`).",
    )
    time: Duration | None = Field(
        default=None,
        description="The jobs' time limit, rounded up to minutes (`--time`). Not set: the "
        "partition's.",
    )
    nodelist: Word | None = Field(default=None, description="Nodes to use (`--nodelist`).")
    exclude: Word | None = Field(default=None, description="Nodes not to use (`--exclude`).")
    licenses: Word | None = Field(default=None, description="Licenses to take (`--licenses`).")
    arguments: tuple[Argument, ...] = Field(
        default=(), description='More long options of `sbatch`, like `"--nice=100"`.'
    )
    workers_per_job: int = Field(
        default=1,
        ge=1,
        le=MOST_WORKERS_PER_JOB,
        description="How many workers share one job, which asks for that many times a worker's "
        "cores, memory and GPUs; for sites that want whole nodes.",
    )
    prolog: tuple[Line, ...] = Field(
        default=(),
        description='Lines of bash that run in each job before Python, like `"module load '
        'python/3.11"`, after /etc/profile. What they change in the environment reaches the '
        "worker; the first one that fails ends the job. Not to be set by options.",
    )
    log_directory: Word | None = Field(
        default=None,
        description="Where jobs write their output on the nodes: an absolute path, in which "
        "`{user}` stands for the Unix user. It is made when only its last part is missing. Where "
        "the gateway's machine has the same directory, it shows the output. Not set: the output "
        "goes with the job.",
    )

    @field_validator("log_directory")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is not None and (not value.startswith("/") or ".." in value.split("/")):
            raise ValueError("must be an absolute path without '..'")
        return value


class SlurmBackendSettings(Section):
    """A Slurm cluster whose commands work on the gateway's machine."""

    type: Literal["slurm"] = Field(description="`slurm`: jobs of a Slurm cluster.")
    period: Duration = Field(
        default=5.0, description="How often `squeue` is asked, once for all users."
    )
    timeout: Duration = Field(
        default=30.0,
        description="How long one of Slurm's commands may take; more than Slurm's own "
        "MessageTimeout.",
    )
    visibility: Duration = Field(
        default=60.0,
        description="How long after an unclear `sbatch` its jobs may still show up before they are "
        "submitted again.",
    )
    max_queued_jobs: int | None = Field(
        default=None,
        gt=0,
        description="How many jobs of one user may wait in the queue at a time (each worker counts, "
        "also of a job that they share); more are submitted as those start. Set it below the "
        "site's limit of submitted jobs. Not set: as many as Slurm takes.",
    )
    bin: AbsolutePath | None = Field(
        default=None,
        description="Where Slurm's commands are. Not set: in the system's usual directories.",
    )
    config: AbsolutePath | None = Field(
        default=None,
        description="The cluster's slurm.conf (`SLURM_CONF`). Not set: where Slurm looks by itself.",
    )
    scratch: AbsolutePath | None = Field(
        default=None,
        description="A directory on the nodes in which each job makes its private one. Not set: the "
        "node's $TMPDIR, or /tmp.",
    )
    act_by: Literal["itself", "sudo", "slurmrestd"] = Field(
        default="itself",
        description="How jobs are submitted and cancelled as their users: by the server `itself`, "
        "as root (or only for its own account); by one rule of `sudo`; or by `slurmrestd`. See "
        "[acting for users](slurm-users.md).",
    )
    helper: AbsolutePath = Field(
        default=Path("/usr/local/libexec/penstock/penstock-slurm"),
        description='With `act_by = "sudo"`: where root installed the helper.',
    )
    rest: SlurmRestSettings | None = None
    jobs: SlurmJobSettings = Field(default_factory=SlurmJobSettings)
    figures: SlurmFigureSettings = Field(default_factory=SlurmFigureSettings)

    @model_validator(mode="after")
    def _reachable(self) -> SlurmBackendSettings:
        if self.act_by == "slurmrestd":
            if self.rest is None:
                raise ValueError("act_by = 'slurmrestd' needs a table rest with url and a token")
            self.check_sayable(self.jobs)
        return self

    def check_sayable(self, jobs: SlurmJobSettings) -> None:
        """Raise ValueError for what slurmrestd cannot be told."""
        if self.act_by == "slurmrestd":
            check_words(jobs.arguments)
            if jobs.workers_per_job > 1:
                raise ValueError("workers_per_job cannot be had by slurmrestd")


BackendSettings = Annotated[
    LocalBackendSettings | SlurmBackendSettings | HTCondorBackendSettings | NotebookBackendSettings,
    Field(discriminator="type"),
]
