"""A cluster in the making: a profile's groups and limits, which options then change. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.environment import choice, job_environment
from penstock.model.cluster import DURATIONS, Activation, ClusterSpec, GroupSpec, Links
from penstock.model.errors import Invalid
from penstock.model.job import Resources
from penstock.settings.backends import BackendSettings
from penstock.settings.base import split_ports
from penstock.settings.extras import mistakes
from penstock.settings.fields import GIB, OptionField
from penstock.settings.problems import shorten
from penstock.settings.profiles import GroupSettings, ProfileSettings, WorkerSettings
from penstock.settings.site_options import Target, parse_target
from penstock.settings.units import parse_duration, parse_size


@dataclass(slots=True)
class _Group:
    """The jobs of one group before they are fixed."""

    backend: str
    python: str
    activation: Activation | None
    cores: float
    memory: int
    gpus: int
    threads: int | None
    nanny: bool
    links: Links
    env: dict[str, str] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    abstract: dict[str, float] = field(default_factory=dict)
    count: int = 0

    @classmethod
    def of(cls, settings: GroupSettings) -> _Group:
        worker = settings if isinstance(settings, WorkerSettings) else None
        return cls(
            backend=settings.backend,
            python=settings.python,
            activation=settings.activation,
            cores=settings.cores,
            memory=settings.memory,
            gpus=settings.gpus,
            threads=worker.threads if worker else 1,
            nanny=worker.nanny if worker else False,
            links=_links(settings),
            env=dict(settings.env),
            extras=dict(settings.extras),
            abstract=dict(worker.resources) if worker else {},
        )


class Blueprint:
    """A profile, open to changes by options until it is built."""

    def __init__(self, profile: ProfileSettings, backends: Mapping[str, BackendSettings]) -> None:
        self._profile = profile
        self._backends = backends
        self._scheduler = _Group.of(profile.scheduler)
        self._workers = {name: _Group.of(group) for name, group in profile.workers.items()}
        self._limits = profile.limits.limits()
        self._env: dict[str, str] = {}

    def apply(self, fields: Mapping[str, OptionField], shown: Mapping[str, Any]) -> list[str]:
        """Let parsed options do what they do; returns what is wrong with them."""
        problems: list[str] = []
        for name, value in shown.items():
            try:
                self._apply(name, fields[name].apply(value))
            except Invalid as error:
                problems.append(str(error))
        return problems

    def use(self, environment: Activation | None, pixi_env: str) -> None:
        """Have all jobs in an environment, or in another one of the profile's pixi project. Raises
        Invalid when the profile has none."""
        groups = (self._scheduler, *self._workers.values())
        projects = {group.activation.project for group in groups if group.activation} - {""}
        if environment is None and pixi_env and not projects:
            raise Invalid("pixi_env needs pixi_project, the directory of a pixi project")
        for group in groups:
            old = group.activation
            if environment is not None:
                group.activation = environment
            elif pixi_env and old is not None and old.project:
                group.activation = choice.pixi(old.project, pixi_env)

    def build(self, profile: str, account: str, home: str) -> tuple[ClusterSpec, tuple[str, ...]]:
        """(spec, names of the user's variables that were dropped) for jobs of a Unix user."""
        scheduler, dropped = self._fix(self._scheduler, account, home)
        workers = {
            name: self._fix(group, account, home)[0] for name, group in self._workers.items()
        }
        return ClusterSpec(profile, scheduler, workers, self._limits), dropped

    def _apply(self, name: str, value: Any) -> None:
        default = next(iter(self._workers.values()), None)
        if name == "env":
            self._env = value
        elif name in (*choice.OPTIONS, "pixi_env"):
            return  # together they name one environment: see ``use``
        elif name == "worker_cores" and default is not None:
            default.cores = float(value)
        elif name == "worker_memory" and default is not None:
            default.memory = value
        elif value not in ("", {}):
            written = self._profile.options[name].target or f"workers.extras.{name}"
            self._aim(name, parse_target(written), value)

    def _aim(self, name: str, target: Target, value: Any) -> None:
        if target.limit:
            self._limit(name, target.limit, value)
            return
        for group in self._places(target):
            if target.variable:
                group.env[target.variable] = _as_text(name, value)
            elif target.extra:
                section = self._backends.get(group.backend)
                group.extras[target.extra] = _extra(name, target.extra, value, section)
            else:
                setattr(group, target.field, _quantity(name, target.field, value))

    def _places(self, target: Target) -> Iterator[_Group]:
        if target.variable or target.place in ("scheduler", "jobs"):
            yield self._scheduler
        if target.variable or target.place in ("workers", "jobs"):
            yield from self._workers.values()
        if target.group:
            yield self._workers[target.group]

    def _limit(self, name: str, limit: str, value: Any) -> None:
        attribute = "max_workers" if limit == "cluster_max_workers" else limit
        bound = getattr(self._limits, attribute)
        try:
            wanted = int(value) if attribute == "max_workers" else parse_duration(value)
        except (TypeError, ValueError) as error:
            raise Invalid(f"{name} cannot set {limit}: {error}, not {shorten(value)}") from None
        if wanted < 0 or (wanted == 0 and attribute != "max_workers"):
            raise Invalid(f"{name} must be greater than 0, not {shorten(value)}")
        if bound is not None and wanted > bound:
            raise Invalid(f"{name} must be at most {bound:g}, not {shorten(value)}")
        changes: dict[str, Any] = {attribute: wanted}
        self._limits = replace(self._limits, **changes)

    def _fix(self, group: _Group, account: str, home: str) -> tuple[GroupSpec, tuple[str, ...]]:
        activation = group.activation
        python = f"{activation.prefix}/bin/python" if activation else group.python
        made = job_environment(
            self._profile.environment.rules(),
            group.env,
            self._env,
            name=account,
            home=home,
            python=python,
            venv=activation.prefix if activation and activation.kind == "venv" else "",
        )
        spec = GroupSpec(
            backend=group.backend,
            python=python,
            env=made.env,
            resources=Resources(group.cores, group.memory, group.gpus),
            nthreads=group.threads or max(1, int(group.cores)),
            memory=group.memory,
            nanny=group.nanny,
            extras=group.extras,
            links=group.links,
            abstract=group.abstract,
            initial=group.count,
            activate=activation,
        )
        return spec, made.dropped


def _links(settings: GroupSettings) -> Links:
    worker = settings if isinstance(settings, WorkerSettings) else None
    return Links(
        route=worker.scheduler_route if worker else "direct",
        ports=split_ports(settings.ports) if settings.ports else None,
        contact_host=settings.contact_host or "",
        listen_host=(worker.listen_host or "") if worker else "",
    )


def _extra(name: str, key: str, value: Any, section: BackendSettings | None) -> Any:
    """A setting of jobs as an option sets it. Raises Invalid for what their backend would refuse."""
    for _, text in mistakes(section, {key: value}):
        known = "" if text.startswith("no setting of") else f", not {shorten(value)}"
        raise Invalid(f"{name} cannot set {key}: {text}{known}")
    return parse_duration(value) if key in DURATIONS else value


def _as_text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise Invalid(f"{name} sets a variable and must be text or a number, not {shorten(value)}")


def _quantity(name: str, what: str, value: Any) -> float:
    """Cores, threads, GPUs or memory (numbers: GiB) that an option sets."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        if what == "memory":
            return parse_size(round(value * GIB) if number else value)
        if not number or value < 0 or (value == 0 and what not in ("gpus", "count")):
            raise ValueError("must be a number greater than 0")
        return float(value) if what == "cores" else int(value)
    except (ValueError, OverflowError) as error:
        raise Invalid(f"{name} cannot set {what}: {error}, not {shorten(value)}") from None
