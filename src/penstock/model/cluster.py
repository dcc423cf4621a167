"""A cluster: what was asked for, what is wanted now, and how it stands."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.model.job import Resources


class Status(enum.IntEnum):
    """A cluster's status, in the words and numbers of the ``dask_gateway`` client."""

    PENDING = 1
    RUNNING = 2
    STOPPING = 3
    STOPPED = 4
    FAILED = 5

    @property
    def final(self) -> bool:
        """True when nothing of the cluster runs any more and nothing ever will."""
        return self in (Status.STOPPED, Status.FAILED)

    @property
    def active(self) -> bool:
        """True while the cluster may be used, or soon may be."""
        return self in (Status.PENDING, Status.RUNNING)


AGENT_EXTRAS = frozenset({"contact_host", "lifetime", "lifetime_stagger", "dashboard"})
"""Keys of a group's ``extras`` that are the agent's and not the backend's."""

DURATIONS = frozenset({"lifetime", "lifetime_stagger"})
"""Those of them that are durations: seconds, or text like "11 h"."""


@dataclass(frozen=True, slots=True)
class Activation:
    """An environment that the agent activates in the job before Dask starts there.

    ``kind`` is "conda", "pixi" or "venv"; ``prefix`` its directory, an absolute path. For pixi:
    ``project`` is the project's directory or manifest, ``environment`` the name in it.
    """

    kind: str
    prefix: str
    project: str = ""
    environment: str = ""


@dataclass(frozen=True, slots=True)
class Links:
    """How the processes of a group reach others, and others them.

    ``route``: workers connect to their scheduler at its own address ("direct") or through the
    front door by name ("door"). ``ports``: first and last port to listen at, None for any.
    ``contact_host``: what others are told, and what to listen at unless ``listen_host`` says so;
    "" to find out, "$NAME" for what the job's variable NAME holds.
    """

    route: str = "direct"
    ports: tuple[int, int] | None = None
    contact_host: str = ""
    listen_host: str = ""


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """How the jobs of one group (the scheduler, or a group of workers) are made.

    ``python`` is the interpreter of the user's environment as an absolute path, or a name that
    the node's PATH finds. ``nthreads`` and ``memory`` (bytes) are what Dask is told; ``resources``
    what the batch system is asked for, ``abstract`` what Dask calls resources of a worker, such as
    {"GPU": 1}. ``initial`` is how many workers a new cluster begins with. ``extras`` go to the
    backend as they are. ``activate`` is the environment of ``python``, None when there is nothing
    to activate.
    """

    backend: str
    python: str
    env: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = Resources()
    nthreads: int = 1
    memory: int = 2 * 2**30
    nanny: bool = True
    extras: Mapping[str, object] = field(default_factory=dict)
    links: Links = Links()
    abstract: Mapping[str, float] = field(default_factory=dict)
    initial: int = 0
    activate: Activation | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds and counts that end or bound a cluster; None means no limit.

    ``start_timeout``: how long a scheduler job may *run* without reporting (queue waits are free).
    ``worker_start_timeout``: the same for a worker. ``max_lifetime``: from creation to the end.
    ``idle_timeout``: without tasks (queued or unrunnable tasks are not idle).
    ``no_client_timeout``: without any connected client. ``max_workers``: over all groups.
    ``worker_tries``: workers of a group that die in a row before they ever served, after which
    the group stops with a reason.
    """

    start_timeout: float = 120.0
    worker_start_timeout: float = 300.0
    max_lifetime: float | None = None
    idle_timeout: float | None = None
    no_client_timeout: float | None = None
    max_workers: int | None = None
    worker_tries: int = 5
    networks: tuple[str, ...] = ()
    """Networks (CIDR) besides its own host from which the scheduler may announce addresses."""


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """Everything that was resolved from profile and options when the cluster was created.

    Kept with the cluster, so that a changed configuration changes no cluster that runs.
    ``workers`` maps a group's name to its spec; the first is the one that ``scale(n)`` means.
    An empty mapping: the workers are external.
    """

    profile: str
    scheduler: GroupSpec
    workers: Mapping[str, GroupSpec] = field(default_factory=dict)
    limits: Limits = Limits()

    @property
    def default_group(self) -> str | None:
        """The group that a plain ``scale(n)`` means, None when all workers are external."""
        return next(iter(self.workers), None)


@dataclass(frozen=True, slots=True)
class Scaling:
    """How many workers a group shall have.

    Fixed: ``count``. Adaptive: ``count`` follows the scheduler's own target between ``minimum``
    and ``maximum`` (None: only the cluster's limit). ``stopped`` says why a group whose workers
    keep dying gets no more of them; the next ``scale`` or ``adapt`` clears it.
    """

    count: int = 0
    adaptive: bool = False
    minimum: int = 0
    maximum: int | None = None
    stopped: str = ""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster as the database holds it. Times are seconds since the epoch.

    ``user`` is the name that authenticated; ``owner`` the Unix user that the jobs run as.
    ``options`` are what the user chose, as they are shown to them. ``reason`` says why it failed
    or was stopped. ``token`` is the secret of its own jobs; ``tls_cert`` and ``tls_key`` are PEM.
    """

    name: str
    user: str
    owner: str
    spec: ClusterSpec
    options: Mapping[str, object]
    token: str
    tls_cert: str
    tls_key: str
    created_at: float
    status: Status = Status.PENDING
    reason: str = ""
    started_at: float | None = None
    stopped_at: float | None = None
    scheduler_address: str = ""
    dashboard_address: str = ""
    scaling: Mapping[str, Scaling] = field(default_factory=dict)
    stop_as: Status = Status.STOPPED
    """What a STOPPING cluster becomes once all its jobs are gone: STOPPED or FAILED."""


class RowState(str, enum.Enum):
    """The life of a journal row."""

    INTENDED = "intended"  # written before the submit; may or may not have been accepted
    SUBMITTED = "submitted"  # accepted, or seen
    CLOSED = "closed"  # nothing of it is wanted any more


@dataclass(frozen=True, slots=True)
class BatchRow:
    """The journal's line for one batch. ``group`` is "" for the scheduler.

    ``released`` are indices that are not wanted any more, ``exited`` those seen to be over: jobs
    with either that are alive get cancelled. ``intended_at`` is seconds since the epoch.
    """

    cluster: str
    sequence: int
    group: str
    backend: str
    owner: str
    count: int
    state: RowState
    intended_at: float
    released: frozenset[int] = frozenset()
    exited: frozenset[int] = frozenset()
    reason: str = ""

    @property
    def wanted(self) -> frozenset[int]:
        """Indices that count towards the target: all that are neither released nor exited."""
        if self.state is RowState.CLOSED:
            return frozenset()
        return frozenset(range(self.count)) - self.released - self.exited


@dataclass(frozen=True, slots=True)
class Event:
    """One line that a user or admin reads later. ``kind`` is a short word for programs."""

    cluster: str
    at: float
    kind: str
    text: str
