"""From a cluster and a journal row to the batch that a backend submits. Pure.

Secrets (token, private key) travel in one file of the job's private directory and nowhere else:
an environment can be read by other programs of the same user, a command line by everybody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from penstock.backends.base import Backend, Timed
from penstock.control.credentials import SNI_PREFIX
from penstock.control.facts import SCHEDULER
from penstock.control.walltime import Lifetime, lifetime
from penstock.model.cluster import AGENT_EXTRAS, BatchRow, Cluster, GroupSpec
from penstock.model.errors import PenstockError
from penstock.model.ids import BatchId
from penstock.model.job import Batch, Role
from penstock.model.wire import AGENT_FILE, CONFIG_FILE

GIVE_UP = 86400.0
"""Seconds that an agent goes on without the server (scheduler) or the scheduler (worker)."""


@dataclass(frozen=True, slots=True)
class Launcher:
    """What all jobs of this gateway have in common.

    ``servers``: URLs that a job can reach us at, tried in turn. ``ca``: PEM to trust for https
    ones, None when the system's are enough. ``door``: ``tls://host:port`` of the front door as
    workers reach it.
    """

    gateway: str
    servers: Sequence[str]
    agent_source: bytes
    ca: str | None = None
    door: str | None = None

    def batch(self, cluster: Cluster, row: BatchRow, limit: float | None = None) -> Batch:
        """The submission that a journal row stands for.

        ``limit``: seconds that the batch system lets its jobs run, None when it is not known yet.
        """
        spec = group_spec(cluster, row.group)
        config = json.dumps(self.config(cluster, row, spec, limit))
        return Batch(
            id=BatchId(self.gateway, cluster.name, row.sequence),
            owner=row.owner,
            role=Role.SCHEDULER if row.group == SCHEDULER else Role.WORKER,
            count=row.count,
            command=(spec.python, AGENT_FILE),
            env=dict(spec.env),
            files={AGENT_FILE: self.agent_source, CONFIG_FILE: config.encode()},
            resources=spec.resources,
            extras=batch_extras(spec),
        )

    def config(
        self, cluster: Cluster, row: BatchRow, spec: GroupSpec, limit: float | None = None
    ) -> Mapping[str, object]:
        """The agent's configuration, see ``AGENT_CONFIG`` in ``penstock.model.wire``."""
        common: dict[str, object] = {
            "cluster": cluster.name,
            "sequence": row.sequence,
            "servers": list(self.servers),
            "token": cluster.token,
            "tls_cert": cluster.tls_cert,
            "tls_key": cluster.tls_key,
            "ca": self.ca,
            "contact_host": spec.extras.get("contact_host") or spec.links.contact_host or None,
            "ports": list(spec.links.ports) if spec.links.ports else None,
            "give_up": GIVE_UP,
            "activate": asdict(spec.activate) if spec.activate else None,
        }
        if row.group == SCHEDULER:
            return {
                "role": "scheduler",
                "dashboard": spec.extras.get("dashboard", True),
                "nthreads": _threads(cluster),
                **common,
            }
        door = self.door if spec.links.route == "door" else None
        life = lifetime(spec, limit)
        return {
            "role": "worker",
            "scheduler_address": door or cluster.scheduler_address,
            "scheduler_sni": SNI_PREFIX + cluster.name if door else None,
            "listen_host": spec.links.listen_host or None,
            "resources": dict(spec.abstract) or None,
            "nthreads": spec.nthreads,
            "memory": spec.memory,
            "nanny": spec.nanny,
            "lifetime": life and life.seconds,
            "lifetime_stagger": life.stagger if life else 0,
            **common,
        }


def _threads(cluster: Cluster) -> int:
    """Threads of a worker that ``adapt`` would bring, so that the first target counts workers."""
    group = cluster.spec.default_group
    return cluster.spec.workers[group].nthreads if group else 1


def batch_extras(spec: GroupSpec) -> dict[str, object]:
    """What a group's backend is told of its extras: all but what is the agent's."""
    return {key: value for key, value in spec.extras.items() if key not in AGENT_EXTRAS}


def group_life(backend: Backend, spec: GroupSpec) -> Lifetime | None:
    """How long the workers of a group work at most, as far as it is known before they run."""
    try:
        return lifetime(spec, time_limit(backend, spec))
    except PenstockError:  # nothing is submitted with such settings
        return None


def time_limit(backend: Backend, spec: GroupSpec) -> float | None:
    """Seconds that a backend says beforehand that a group's jobs may run. Raises Rejected."""
    return backend.time_limit(batch_extras(spec)) if isinstance(backend, Timed) else None


def group_spec(cluster: Cluster, group: str) -> GroupSpec:
    """How the jobs of a group are made. Raises KeyError for a group that the cluster has not."""
    return cluster.spec.scheduler if group == SCHEDULER else cluster.spec.workers[group]
