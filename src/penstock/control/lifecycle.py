"""A cluster's life: PENDING → RUNNING → STOPPING → STOPPED or FAILED, never backward.

Pure: a cluster goes in, the changed cluster comes out (the same object when nothing changes).
FAILED is reached through STOPPING, too: a failed scheduler may have left workers, and a final
status promises that nothing of the cluster runs any more.
"""

from __future__ import annotations

from dataclasses import replace

from penstock.model.cluster import Cluster, Status


def running(cluster: Cluster, *, scheduler: str, dashboard: str, now: float) -> Cluster:
    """Its scheduler has reported from these addresses. ``now``: seconds since the epoch."""
    if not cluster.status.active:
        return cluster
    started = cluster.started_at if cluster.started_at is not None else now
    if (
        cluster.status is Status.RUNNING
        and cluster.scheduler_address == scheduler
        and cluster.dashboard_address == dashboard
    ):
        return cluster
    return replace(
        cluster,
        status=Status.RUNNING,
        started_at=started,
        scheduler_address=scheduler,
        dashboard_address=dashboard,
    )


def stopping(cluster: Cluster, *, reason: str, stop_as: Status = Status.STOPPED) -> Cluster:
    """It shall end, and be called ``stop_as`` then. The first reason stands."""
    if not cluster.status.active:
        return cluster
    return replace(cluster, status=Status.STOPPING, stop_as=stop_as, reason=reason)


def ended(cluster: Cluster, *, now: float) -> Cluster:
    """Nothing of it runs any more. ``now``: seconds since the epoch."""
    if cluster.status is not Status.STOPPING:
        return cluster
    return replace(cluster, status=cluster.stop_as, stopped_at=now)
