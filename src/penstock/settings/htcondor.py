"""Sections about HTCondor: the pool's submit side, and what jobs are submitted with.

Values become lines of a submit description, which has macros, comments and continued lines of its
own. So a value is one line of text without what would begin one of those; everything else is
quoted where it is used (``penstock.backends.htcondor.submit``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from penstock.settings.base import AbsolutePath, Section
from penstock.settings.figures import FigureSettings
from penstock.settings.units import Duration, Size

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")

OURS = frozenset(
    {
        *("arguments", "args", "arguments2", "batch_name", "cmd", "description", "docker_image"),
        *(
            "container_image",
            "dont_encrypt_input_files",
            "env",
            "environment",
            "error",
            "executable",
        ),
        *("copy_to_spool", "hold", "initialdir", "initial_dir", "job_lease_duration", "input"),
        *("leave_in_queue", "log", "max_retries", "notification", "on_exit_hold", "on_exit_remove"),
        *("output", "periodic_remove", "periodic_release", "rank", "requirements", "request_cpus"),
        *("request_disk", "request_gpus", "request_memory", "retry_until", "should_transfer_files"),
        *("skip_filechecks", "spool", "stream_error", "stream_output", "transfer_executable"),
        *("stdin", "stdout", "stderr", "initial-dir", "universe", "getenv", "accounting_group"),
        *("transfer_output_files", "when_to_transfer_output", "accounting_group_user", "queue"),
        *("concurrency_limits", "transfer_output_remaps", "success_exit_code", "kill_sig"),
        *("allowed_execute_duration", "allowed_job_duration", "deferral_time", "cron_minute"),
        *("max_materialize", "max_idle", "noop_job", "next_job_start_delay", "remote_initialdir"),
        *("transfer_output", "transfer_error", "transfer_input", "submit_event_notes", "nice_user"),
        *("owner", "user", "jobbatchname", "leavejobinqueue", "periodicremove", "onexitremove"),
        *("onexithold", "jobstatus", "clusterid", "procid", "jobuniverse", "cmd", "out", "err"),
        *("iwd", "acctgroup", "acctgroupuser", "accountinggroup", "numjobstarts", "ntdomain"),
        *("include", "if", "else", "elif", "endif", "use", "jobmaxvacatetime"),
    }
)
"""Commands and attributes, in lower case, that the gateway sets itself or that have a key of their
own, or that would make a job somebody else's or run it twice."""


FILES_OF_JOBS = frozenset({"container_image", "transfer_input_files", "submit"})
"""Keys by which a job takes along files of the submit side."""


def _text(value: str) -> str:
    if not value.strip() or len(value) > 4096 or re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError("must be text in one line, up to 4096 characters")
    if "$$" in value:
        raise ValueError("must not hold '$$', which HTCondor replaces by what a machine says")
    return value


def _expression(value: str) -> str:
    """Balanced, so that what stands around it stays around it."""
    value = _text(value).strip()
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", value)
    depth = 0
    for mark in re.sub(r"'(?:[^'\\]|\\.)*'", "", bare):
        depth += {"(": 1, "[": 1, "{": 1}.get(mark, -1 if mark in ")]}" else 0)
        if depth < 0:
            break
    if depth or re.search(r"""["'\\#;]|//|/\*""", re.sub(r"'(?:[^'\\]|\\.)*'", "", bare)):
        raise ValueError("must be one ClassAd expression with matching quotes and brackets")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.@-]{1,256}", value):
        raise ValueError("must be a name of letters, digits and '_', '.', '-', '@'")
    return value


Text = Annotated[str, AfterValidator(_text)]
Expression = Annotated[str, AfterValidator(_expression)]
Dotted = Annotated[str, AfterValidator(_name)]
Limits = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+(:[0-9.]+)?(,[A-Za-z0-9_.]+(:[0-9.]+)?)*$")]


def _keys(value: Mapping[str, object]) -> None:
    for key in value:
        bare = key.removeprefix("+").removeprefix("MY.")
        if not NAME.fullmatch(bare):
            raise ValueError(f"{key[:40]!a} cannot be the name of an attribute or a submit command")
        if bare.lower() in OURS or bare.lower().startswith("penstock"):
            raise ValueError(f"{key} is set by the gateway")


class HTCondorJobSettings(Section):
    """What HTCondor is told about jobs. A profile's `extras` take the same keys and win over it."""

    universe: Literal["vanilla", "container"] = Field(
        default="vanilla",
        description="`vanilla`, or `container` to run in `container_image`.",
    )
    container_image: Text | None = Field(
        default=None,
        description="The image of jobs in the container universe: a .sif file, an unpacked "
        "directory or a `docker://` address.",
    )
    request_disk: Size | None = Field(
        default=None, description="Disk for each job. Not set: the pool's default."
    )
    requirements: Expression | None = Field(
        default=None, description="Which machines will do, a ClassAd expression."
    )
    rank: Expression | None = Field(
        default=None, description="Which of them are better, a ClassAd expression."
    )
    accounting_group: Dotted | None = Field(default=None, description="The accounting group.")
    accounting_group_user: Dotted | None = Field(
        default=None, description="The user within the accounting group. Not set: the job's owner."
    )
    concurrency_limits: Limits | None = Field(
        default=None, description="Limits that each job counts for, such as `XSW:2,DB`."
    )
    time: Duration | None = Field(
        default=None,
        description="How long a job may run; HTCondor removes it then (`periodic_remove`). "
        "Not set: for ever.",
    )
    pool_time: Duration | None = Field(
        default=None,
        description="How long the pool itself lets jobs run, where it does so by its own "
        "configuration: it is told to nobody but the gateway, which replaces workers in time.",
    )
    periodic_remove: Expression | None = Field(
        default=None, description="When HTCondor shall remove a job, a ClassAd expression."
    )
    transfer_input_files: tuple[Text, ...] = Field(
        default=(),
        description="More files and URLs that each job gets. They are read with the rights of whoever "
        "submits: let users choose none.",
    )
    attributes: Mapping[str, bool | int | float | Text] = Field(
        default_factory=dict,
        description="More attributes of the job ad, as `isDaskJob = true`; text is quoted.",
    )
    submit: Mapping[str, Text] = Field(
        default_factory=dict,
        description='More submit commands, as `use_x509userproxy = "true"` or `"+Site" = "Foo ?: 1"`; '
        "what the gateway sets itself cannot be set here.",
    )

    @field_validator("attributes", "submit")
    @classmethod
    def _not_ours(cls, value: Mapping[str, object]) -> Mapping[str, object]:
        _keys(value)
        return value

    @field_validator("submit")
    @classmethod
    def _whole_lines(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for key, text in value.items():
            if text.rstrip().endswith("\\") or text.lstrip().startswith("@="):
                raise ValueError(f"{key} must not go on in the next line")
        return value


class HTCondorBackendSettings(Section):
    """An HTCondor pool whose commands work on the gateway's machine."""

    type: Literal["htcondor"] = Field(description="`htcondor`: jobs of an HTCondor pool.")
    period: Duration = Field(
        default=5.0, description="How often `condor_q` is asked, once for all users."
    )
    timeout: Duration = Field(
        default=30.0,
        description="How long one of HTCondor's commands may take; they give up by themselves after "
        "20 s, but for `condor_submit`, which waits for ever.",
    )
    visibility: Duration = Field(
        default=30.0,
        description="How long after an unclear `condor_submit` its jobs may still show up before they "
        "are submitted again.",
    )
    max_queued_jobs: int | None = Field(
        default=None,
        gt=0,
        description="How many jobs of one user may wait in the queue at a time; more are submitted as "
        "those start. Not set: as many as HTCondor takes.",
    )
    bin: AbsolutePath | None = Field(
        default=None,
        description="Where HTCondor's commands are. Not set: in the system's usual directories.",
    )
    config: AbsolutePath | None = Field(
        default=None,
        description="The configuration of the commands (`CONDOR_CONFIG`). Not set: where HTCondor "
        "looks by itself.",
    )
    schedd: Dotted | None = Field(
        default=None,
        description="The name of the schedd, as `condor_status -schedd` shows it. Not set: this "
        "machine's.",
    )
    pool: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:\[\]-]{1,256}$")] | None = Field(
        default=None,
        description="Another pool's central manager (`host` or `host:port`). Needs `schedd`.",
    )
    act_by: Literal["itself", "behalf", "token"] = Field(
        default="itself",
        description="How jobs become their users': the server runs the commands as the Unix user "
        "`itself`, as root (or only for its own account); on `behalf` of the user, as one of the "
        "schedd's QUEUE_SUPER_USERS; or with a `token` that it signs for the user.",
    )
    domain: Dotted | None = Field(
        default=None,
        description="What stands after the @ in users' HTCondor names (UID_DOMAIN). Needed for "
        "`token`.",
    )
    key: Dotted = Field(
        default="POOL", description="The signing key that `condor_token_create -key` uses."
    )
    token_lifetime: Duration = Field(
        default=86400.0, description="How long a signed token is good; it is renewed in time."
    )
    spool: bool | None = Field(
        default=None,
        description="Whether files go to the schedd and come from it by the network. Not set: only "
        "with `schedd`, `pool`, or `act_by` other than `itself`.",
    )
    directory: AbsolutePath | None = Field(
        default=None,
        description="Where jobs' files and output lie on the schedd's machine, without `spool`. Not "
        "set: below the state directory, or /var/lib/penstock-htcondor when the jobs are many users'.",
    )
    remember: Duration = Field(
        default=600.0,
        description="How long jobs that are over stay in the queue, so that `condor_q` tells how they "
        "ended.",
    )
    grace: Duration = Field(
        default=30.0,
        description="How long a job may take to end by itself when it is removed "
        "(`job_max_vacate_time`).",
    )
    lease: Duration = Field(
        default=1200.0,
        description="How long a job goes on without the schedd, and the schedd waits for a machine that "
        "does not answer, before the job counts as lost (`job_lease_duration`).",
    )
    jobs: HTCondorJobSettings = Field(default_factory=HTCondorJobSettings)
    figures: FigureSettings = Field(default_factory=FigureSettings)

    @property
    def spools(self) -> bool:
        """Whether files travel by the network."""
        if self.spool is not None:
            return self.spool
        return bool(self.schedd or self.pool or self.act_by != "itself")

    @property
    def reads_for_users(self) -> bool:
        """Whether files that jobs take along are read with the gateway's rights, not the user's."""
        return self.spools and self.act_by != "itself"

    @model_validator(mode="after")
    def _named(self) -> HTCondorBackendSettings:
        if self.act_by == "token" and self.domain is None:
            raise ValueError(
                "act_by = 'token' needs domain, what stands after the @ in users' names"
            )
        if self.pool is not None and self.schedd is None:
            raise ValueError(
                "pool needs schedd, the name of a schedd there (`condor_status -schedd -pool ...`): "
                "HTCondor's commands take this machine's otherwise"
            )
        return self
