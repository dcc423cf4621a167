"""Profiles: what a user picks. Where scheduler and workers run, how large, how long, for whom."""

from __future__ import annotations

import ipaddress
import re
import sys
from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from penstock.environment import DROP, EnvironmentRules, choice
from penstock.model.cluster import Activation, Limits
from penstock.settings.base import AbsolutePath, Name, Ports, Section, Variables
from penstock.settings.site_options import SiteOption
from penstock.settings.units import Duration, Size, show_size

GIB = 2**30

PIXI_ENVIRONMENT = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"

HOST = r"^(\$[A-Za-z_][A-Za-z0-9_]*|[A-Za-z0-9][A-Za-z0-9.:%_-]*|::[A-Za-z0-9.:%_-]*)$"

BuiltIn = Literal[
    "worker_cores", "worker_memory", "env", "venv", "conda_env", "pixi_project", "pixi_env"
]
BUILT_IN: tuple[BuiltIn, ...] = get_args(BuiltIn)


class GroupSettings(Section):
    """Jobs of one kind."""

    backend: Name = Field(default="local", description="Which of [backends] runs these jobs.")
    python: str = Field(
        default_factory=lambda: sys.executable,
        min_length=1,
        pattern=r"^[^\x00-\x1f]+$",
        description="The interpreter of the jobs: an absolute path, or a name in the nodes' PATH.",
        json_schema_extra={"default_text": "the interpreter that runs the gateway"},
    )
    venv: AbsolutePath | None = Field(
        default=None,
        description="A virtual environment, whose bin/python is used instead.",
    )
    conda_env: AbsolutePath | None = Field(
        default=None, description="The same with a conda environment, which is activated."
    )
    pixi_project: AbsolutePath | None = Field(
        default=None,
        description="The same with an environment of a pixi project (its directory or manifest).",
    )
    pixi_env: str = Field(
        default="default",
        pattern=PIXI_ENVIRONMENT,
        description="Which environment of pixi_project.",
    )
    cores: float = Field(default=1.0, gt=0, le=100_000, description="Cores of each job.")
    memory: Size = Field(default=2 * GIB, description="Memory of each job.")
    gpus: int = Field(default=0, ge=0, description="GPUs of each job.")
    env: Variables = Field(
        default_factory=dict, description="Environment variables; users' own win over them."
    )
    ports: Ports | None = Field(
        default=None,
        description='Ports that the processes of these jobs listen at, e.g. "40000-40099". '
        "Not set: any.",
    )
    contact_host: str | None = Field(
        default=None,
        pattern=HOST,
        description="Host that others are told to reach these jobs at: an address, or `$NAME` for "
        "what the job's variable NAME holds. Not set: the job finds out.",
    )
    extras: dict[str, Any] = Field(
        default_factory=dict, description="What only this kind of backend understands."
    )

    @model_validator(mode="after")
    def _one_environment(self) -> GroupSettings:
        given = [name for name in choice.OPTIONS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other")
        if self.pixi_project is None and self.pixi_env != "default":
            raise ValueError("pixi_env needs pixi_project")
        return self

    @property
    def activation(self) -> Activation | None:
        """The environment of these jobs, None where ``python`` alone says it."""
        if self.pixi_project is not None:
            return choice.pixi(str(self.pixi_project), self.pixi_env)
        if self.conda_env is not None:
            return choice.conda(choice.tidy(str(self.conda_env)))
        return choice.venv(choice.tidy(str(self.venv))) if self.venv is not None else None


class SchedulerSettings(GroupSettings):
    """The job of the scheduler."""


class WorkerSettings(GroupSettings):
    """The jobs of one group of workers."""

    min_cores: float | None = Field(
        default=None,
        gt=0,
        description="The fewest a user may ask for. Not set: 1, or cores if fewer.",
    )
    max_cores: float | None = Field(
        default=None, gt=0, description="The most a user may ask for. Not set: cores."
    )
    min_memory: Size | None = Field(
        default=None,
        description='The least a user may ask for. Not set: "512 MiB", or memory if less.',
    )
    max_memory: Size | None = Field(
        default=None, description="The most a user may ask for. Not set: memory."
    )
    threads: int | None = Field(
        default=None, gt=0, description="Threads of each worker. Not set: its cores, rounded down."
    )
    nanny: bool = Field(
        default=True, description="Whether a nanny watches each worker and restarts it."
    )
    scheduler_route: Literal["direct", "door"] = Field(
        default="direct",
        description="How workers reach their scheduler: at its own address, or through the front "
        "door (server.door_address).",
    )
    listen_host: str | None = Field(
        default=None,
        pattern=HOST,
        description="Host to listen at where it is not contact_host, such as behind a port "
        "forwarding. Not set: contact_host.",
    )
    resources: dict[str, float] = Field(
        default_factory=dict,
        description="What Dask calls resources of each worker, e.g. `{ GPU = 1 }`, for "
        "`dask.annotate`.",
    )

    @model_validator(mode="after")
    def _order(self) -> WorkerSettings:
        low, high = self.cores_range
        if not low <= self.cores <= high:
            raise ValueError(f"cores ({self.cores:g}) must lie between {low:g} and {high:g}")
        least, most = self.memory_range
        if not least <= self.memory <= most:
            raise ValueError(
                f"memory ({show_size(self.memory)}) must lie between {show_size(least)} and "
                f"{show_size(most)}"
            )
        return self

    @property
    def cores_range(self) -> tuple[float, float]:
        """Fewest and most cores that a user may ask for."""
        return self.min_cores or min(1.0, self.cores), self.max_cores or self.cores

    @property
    def memory_range(self) -> tuple[int, int]:
        """Least and most memory in bytes that a user may ask for."""
        return self.min_memory or min(GIB // 2, self.memory), self.max_memory or self.memory


class LimitSettings(Section):
    """What ends or bounds a cluster. Without a value there is no limit."""

    start_timeout: Duration = Field(
        default=120.0,
        description="How long a scheduler may run without reporting. Waiting in a queue is free.",
    )
    worker_start_timeout: Duration = Field(default=300.0, description="The same for a worker.")
    max_lifetime: Duration | None = Field(
        default=None, description="From a cluster's creation to its end."
    )
    idle_timeout: Duration | None = Field(
        default=None, description="How long a cluster lives without any task."
    )
    no_client_timeout: Duration | None = Field(
        default=None, description="How long a cluster lives without any connected client."
    )
    cluster_max_workers: int | None = Field(
        default=None, ge=0, description="Workers of one cluster, over all groups."
    )
    worker_tries: int = Field(
        default=5,
        gt=0,
        description="Workers that die in a row before serving until their group stops.",
    )
    networks: tuple[str, ...] = Field(
        default=(),
        description="Networks (CIDR) besides its own host from which a scheduler may announce "
        "addresses.",
    )

    @field_validator("networks")
    @classmethod
    def _cidr(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(text)) for text in value)

    def limits(self) -> Limits:
        """The same as the core knows it."""
        values = self.model_dump()
        values["max_workers"] = values.pop("cluster_max_workers")
        return Limits(**values)


class AllowSettings(Section):
    """Who may use a profile. Without any name: everybody."""

    users: tuple[str, ...] = Field(default=(), description="Users who may use it.")
    groups: tuple[str, ...] = Field(default=(), description="Groups whose members may use it.")


class EnvironmentSettings(Section):
    """Environments, and which of a user's variables reach the jobs; patterns as in `JUPYTER_*`."""

    conda_dirs: tuple[str, ...] = Field(
        default=(),
        description="Where the option `conda_env` finds environments by name, in this order, e.g. "
        '`["{home}/.conda/envs", "/shared/envs"]`; `{home}` is the user\'s home directory.',
    )
    check: bool = Field(
        default=True,
        description="Whether environments that users name are looked for when a cluster is made, "
        "with the user's rights. Turn it off where the gateway sees other directories than the "
        "jobs under the same names.",
    )
    drop: tuple[str, ...] = Field(
        default=DROP,
        description="Names that are dropped. Replaces the built-in list.",
        json_schema_extra={"default_text": "a list of names that break jobs or open notebooks"},
    )
    also_drop: tuple[str, ...] = Field(default=(), description="Names dropped besides those.")
    keep: tuple[str, ...] = Field(default=(), description="Names that are kept nevertheless.")

    @field_validator("conda_dirs")
    @classmethod
    def _places(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for directory in value:
            if not re.fullmatch(r"(\{home\}|/)[^\x00-\x1f:{}]*", directory):
                raise ValueError(
                    f"must be absolute paths, or begin with {{home}}, not {directory[:80]!a}"
                )
        return tuple(directory.rstrip("/") for directory in value)

    def rules(self) -> EnvironmentRules:
        """The same as rules."""
        return EnvironmentRules(self.drop + self.also_drop, self.keep)


class ProfileSettings(Section):
    """One profile."""

    description: str = Field(default="", description="A line for people.")
    scheduler: SchedulerSettings = Field(default_factory=SchedulerSettings)
    workers: dict[Name, WorkerSettings] = Field(
        default_factory=lambda: {"default": WorkerSettings()},
        description="Groups of workers; the first is the one that `scale(n)` means. An empty table: "
        "the workers come from elsewhere.",
    )
    limits: LimitSettings = Field(default_factory=LimitSettings)
    allow: AllowSettings = Field(default_factory=AllowSettings)
    environment: EnvironmentSettings = Field(default_factory=EnvironmentSettings)
    built_in_options: tuple[BuiltIn, ...] = Field(
        default=BUILT_IN, description="Which of the built-in options users may set."
    )
    options: dict[str, SiteOption] = Field(
        default_factory=dict, description="Options that this site adds."
    )
